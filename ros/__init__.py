"""ROS 2 nodes over egotwin_sim. Importing this package needs no ROS installation; the nodes do."""
