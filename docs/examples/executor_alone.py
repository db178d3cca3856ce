"""An executor without a model, and without async: `pip install agentd-executor-subprocess` is enough."""

from agentd import SubprocessExecutor
from agentd.types import BashAction, PythonAction

with SubprocessExecutor("./workspace", timeout=10) as executor:
    output, exit_code = executor.execute_bash("mkdir -p data && cd data && seq 3 > numbers.txt && pwd")
    print(exit_code, output, end="")
    # a block starts where the last bash block has ended
    output, exit_code = executor.execute_python("print(sum(map(int, open('numbers.txt'))))")
    print(exit_code, output, end="")

    result = executor.run_sync(PythonAction(code="import nothing_of_the_kind"))
    print(result.status, result.exit_code, result.stderr.decode().splitlines()[-1])
    result = executor.run_sync(BashAction(command="sleep 60", timeout_s=0.2))
    print(result.status, result.exit_code)
