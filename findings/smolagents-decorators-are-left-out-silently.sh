#!/usr/bin/env bash
# One would expect: smolagents' LocalPythonExecutor, which says of what it does not know that it is "not supported", applies a
# decorator or refuses it; and an `except KeyError` catches the KeyError of a dictionary.
#
# What happens (smolagents 1.26.0, CPython 3.11, Linux, 2026-11-30): decorators are left out without a word, so that a function
# is called undecorated and a property is a method; and the errors of subscripts pass every `except` but that of their
# interpreter's own error. Output seen, with what CPython gives in front:
#
#   decorated function: 'HELLO ADA', smolagents: 'hello ada'
#   property: 1, smolagents: a bound method
#   except KeyError: 'caught', smolagents: InterpreterError
#
# This script runs that and fails if it changes. It needs python3 >= 3.11 and a package index.
set -eu
set -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check install -q smolagents==1.26.0

cat >"$folder/differ.py" <<'PYTHON'
from smolagents.local_python_executor import LocalPythonExecutor

FUNCTION = """
def loud(function):
    def inner(text):
        return function(text).upper()
    return inner

@loud
def greet(text):
    return "hello " + text

result = greet("ada")
"""
PROPERTY = """
class Square:
    @property
    def area(self):
        return 1

result = Square().area
"""
EXCEPT = """
try:
    result = {}["a"]
except KeyError:
    result = "caught"
"""
for name, code in (("decorated function", FUNCTION), ("property", PROPERTY), ("except KeyError", EXCEPT)):
    names = {}
    exec(code, names)
    executor = LocalPythonExecutor(["*"])
    executor.send_tools({})
    try:
        got = executor(code + "result\n").output
        got = "a bound method" if "bound method" in repr(got) else repr(got)
    except Exception as error:
        got = type(error).__name__
    print(f"{name}: {names['result']!r}, smolagents: {got}")
PYTHON
cd "$folder"
"$folder/venv/bin/python" differ.py 2>/dev/null | tee said
cat >expected <<'TEXT'
decorated function: 'HELLO ADA', smolagents: 'hello ada'
property: 1, smolagents: a bound method
except KeyError: 'caught', smolagents: InterpreterError
TEXT
if ! diff expected said; then
    echo "it has changed: that is no longer what is written above"
    exit 1
fi
echo "as written above"
