"""A goal text becomes a moving humanoid: the world model, the MuJoCo bridge and, if it is asked for, a policy.

ros2 launch egotwin_sim live.launch.py prompt:="walk to the red box"
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler, SetEnvironmentVariable
from launch.conditions import IfCondition, UnlessCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PACKAGE = "egotwin_sim"
ARGUMENTS = (
    ("prompt", "", "The goal text; empty to wait for the topic prompt."),
    ("body", "ours", "The humanoid: ours, g1, cmu, or the path of an MJCF file with its table beside it."),
    ("mode", "assisted", "How it follows the dreamt motion: kinematic, assisted, pd or policy."),
    ("size", "256", "Width and height of the head camera's pictures, pixels."),
    ("model", "nano", "Weights: the name of shipped ones, or a folder."),
    ("room_seed", "0", "Seed of the room; -1 for an empty floor."),
    ("anchor_hz", "0.5", "How often the dream goes on from a real frame and body; 0 for never."),
    ("policy", "", "Name of a policy that moves the body, such as scripted; empty to let the model dream the body."),
    ("composed", "true", "All nodes in one process, or one process each."),
    ("headless", "true", "Without RViz."),
    ("use_sim_time", "false", "The bridge publishes /clock, and every node goes by it."),
    ("namespace", "egotwin", "Of all nodes and topics."),
    ("domain", EnvironmentVariable("ROS_DOMAIN_ID", default_value="0"), "ROS_DOMAIN_ID of all nodes, 0 to 101."),
    ("autostart", "true", "Bring the nodes to active; otherwise use ros2 lifecycle."),
    ("params_file", PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "live.yaml"]), "Other parameters."),
    (
        "transport",
        PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "fastdds_large_images.xml"]),
        "Profile of Fast DDS, with room for large pictures; empty for its defaults.",
    ),
)


def value(name: str, kind: type) -> ParameterValue:
    """A launch argument as a parameter of a type."""
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


def generate_launch_description() -> LaunchDescription:
    """The nodes; when one of them ends, all do."""
    with_policy = PythonExpression(["'", LaunchConfiguration("policy"), "' != ''"])
    parameters = [
        LaunchConfiguration("params_file"),
        {
            "autostart": value("autostart", bool),
            "prompt": value("prompt", str),
            "body": value("body", str),
            "mode": value("mode", str),
            "image_size": value("size", int),
            "model": value("model", str),
            "room_seed": value("room_seed", int),
            "anchor_hz": value("anchor_hz", float),
            "policy": value("policy", str),
            "body_from": PythonExpression(["'tokens' if ", with_policy, " else 'model'"]),
            "use_sim_time": value("use_sim_time", bool),
            "publish_clock": value("use_sim_time", bool),
        },
    ]

    def node(executable: str, condition: object) -> Node:
        return Node(
            package=PACKAGE,
            executable=executable,
            namespace=LaunchConfiguration("namespace"),
            parameters=parameters,
            output="screen",
            emulate_tty=True,
            condition=condition,
        )

    apart = ["'", LaunchConfiguration("composed"), "'.lower() not in ('true', '1')"]
    nodes = [
        node("live_node", UnlessCondition(PythonExpression(apart))),
        node("mujoco_bridge_node", IfCondition(PythonExpression(apart))),
        node("world_model_node", IfCondition(PythonExpression(apart))),
        node("policy_node", IfCondition(PythonExpression([*apart, " and ", with_policy]))),
    ]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "egotwin.rviz"])],
        parameters=[{"use_sim_time": value("use_sim_time", bool)}],
        condition=UnlessCondition(LaunchConfiguration("headless")),
    )
    profile = LaunchConfiguration("transport")
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, default, text in ARGUMENTS
            ),
            SetEnvironmentVariable("ROS_DOMAIN_ID", LaunchConfiguration("domain")),
            SetEnvironmentVariable(
                "FASTDDS_DEFAULT_PROFILES_FILE",
                profile,
                condition=IfCondition(PythonExpression(["'", profile, "' != ''"])),
            ),
            *nodes,
            rviz,
            *(
                RegisterEventHandler(OnProcessExit(target_action=each, on_exit=[EmitEvent(event=Shutdown())]))
                for each in nodes
            ),
        ]
    )
