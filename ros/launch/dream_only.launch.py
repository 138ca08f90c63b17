"""The world model alone: it dreams view and body from a room's first frame, and publishes both.

ros2 launch egotwin_sim dream_only.launch.py prompt:="walk to the red box"
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler, SetEnvironmentVariable
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PACKAGE = "egotwin_sim"
ARGUMENTS = (
    ("prompt", "walk to the red box", "The goal text; empty to wait for the topic prompt."),
    ("body", "ours", "The humanoid that joint_trajectory is for: ours, g1, cmu, or the path of an MJCF file."),
    ("model", "nano", "Weights: the name of shipped ones, or a folder."),
    ("room_seed", "0", "Seed of the room that the first frame is taken in."),
    ("use_sim_time", "false", "Go by /clock, which someone else publishes."),
    ("namespace", "egotwin", "Of the node and its topics."),
    ("domain", EnvironmentVariable("ROS_DOMAIN_ID", default_value="0"), "ROS_DOMAIN_ID, 0 to 101."),
    ("autostart", "true", "Bring the node to active; otherwise use ros2 lifecycle."),
    ("params_file", PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "live.yaml"]), "Other parameters."),
)


def value(name: str, kind: type) -> ParameterValue:
    """A launch argument as a parameter of a type."""
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


def generate_launch_description() -> LaunchDescription:
    """The node; the launch ends with it."""
    world_model = Node(
        package=PACKAGE,
        executable="world_model_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "autostart": value("autostart", bool),
                "prompt": value("prompt", str),
                "body": value("body", str),
                "model": value("model", str),
                "room_seed": value("room_seed", int),
                "start_from": "room",
                "anchor_hz": 0.0,
                "use_sim_time": value("use_sim_time", bool),
            },
        ],
        output="screen",
        emulate_tty=True,
    )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, default, text in ARGUMENTS
            ),
            SetEnvironmentVariable("ROS_DOMAIN_ID", LaunchConfiguration("domain")),
            world_model,
            RegisterEventHandler(OnProcessExit(target_action=world_model, on_exit=[EmitEvent(event=Shutdown())])),
        ]
    )
