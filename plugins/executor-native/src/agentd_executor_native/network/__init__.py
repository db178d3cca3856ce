"""The network of a sandbox that has none: a proxy in the host's process, and the rules that it keeps.

An executor whose sandbox has an empty network namespace with its loopback up uses it like this:

    rules = HostRules.parse("allowed_hosts", allowed_hosts)  # ConfigError with a sentence for each wrong entry
    egress = Egress(rules, on_host_request=on_host_request)  # one for a session; does nothing until it is used
    ...
    with egress.child_end() as theirs:  # for each start of the sandbox
        command = port_command(python, theirs.fileno(), runner_command)
        ...  # start it in the sandbox; it inherits `theirs` under the same number
    env |= proxy_environment()  # what code sees; what the host's environment says of proxies must not get in
    ...
    egress.take_refused()  # sentences for the result of an action: what was refused while it ran
    egress.close()  # with the session

With secrets:

    secrets = HostSecrets.parse("secrets", given, os.environ)
    egress = Egress(rules, secrets=secrets)
    egress.trusted_authorities()  # the sandbox shows a file with this text, if it is not None, at a path
    env |= secrets.environment(path)

Nothing of it is needed, or loaded, for a sandbox without `allowed_hosts` and `on_host_request`.
"""

from agentd_executor_native.network.egress import Egress
from agentd_executor_native.network.gate import EgressLimits, OnHostRequest, OnPolicyRequest
from agentd_executor_native.network.joining import port_command, proxy_environment
from agentd_executor_native.network.rules import HostRules
from agentd_executor_native.network.secrets import HostSecrets

__all__ = [
    "Egress",
    "EgressLimits",
    "HostRules",
    "HostSecrets",
    "OnHostRequest",
    "OnPolicyRequest",
    "port_command",
    "proxy_environment",
]
