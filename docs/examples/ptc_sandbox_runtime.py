"""Code that the model writes runs in a sandbox: it writes in the workspace alone and reaches one host.

Needs Linux, `npm install -g @anthropic-ai/sandbox-runtime`, bubblewrap, socat and ripgrep. Set OPENAI_API_KEY,
or OPENAI_BASE_URL for another server.
"""

from agentd import create_sandbox_runtime_executor, display_events, patch_openai_with_ptc, tool
from openai import OpenAI


@tool
def square_root(number: float) -> float:
    """The square root of a number. Runs here, in this program, not in the sandbox."""
    return number**0.5


executor = create_sandbox_runtime_executor(
    workspace_dir="./workspace",
    allowed_domains=["api.github.com"],
    deny_read=["~/.ssh", "~/.aws", "~/.gnupg", "~/.config"],
)
works, message = executor.verify()
print(message)
if not works:
    raise SystemExit(1)

with executor:
    client = patch_openai_with_ptc(OpenAI(), executor=executor)
    stream = client.responses.create(
        model="gpt-4.1",
        input="Try to write to /etc/hosts, then work out the square root of 144.",
        stream=True,
    )
    for event in display_events(stream):
        if event.type == "text_delta":
            print(event.text, end="", flush=True)
        elif event.type == "code_execution":
            print(f"\n$ {event.code}\n{event.output}\n")
    client.cleanup_ptc()
    for risky in executor.risky_files():
        print(f"look at {risky.path}: {risky.reason}")
