"""The network of a sandbox that has none: a proxy in the host's process, and the rules that it keeps."""

from agentd_executor_native.network.egress import Egress, proxy_environment
from agentd_executor_native.network.gate import EgressLimits, OnHostRequest
from agentd_executor_native.network.rules import HostRules

__all__ = ["Egress", "EgressLimits", "HostRules", "OnHostRequest", "proxy_environment"]
