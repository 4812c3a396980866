#!/usr/bin/env python3
"""Lists the operations and documented answers of CAMARA's files: operations.py FILE.yaml… > operations.txt

Needs PyYAML. A line is an operation or one of its answers: file, operationId, method, path; file, operationId, status,
code (`-` where an answer has none). What a webhook is asked and answers is its file's name with `/callback`.
tests/camara_documented.rs runs over the list. Facts only: no text of the files is in it.
"""

import pathlib
import sys

import yaml

METHODS = ("get", "put", "post", "patch", "delete")


class File:
    def __init__(self, path):
        self.path = path
        self.document = yaml.safe_load(path.read_text())

    def follow(self, value):
        """What a `$ref` leads to, which may be in another file."""
        where = self
        while isinstance(value, dict) and "$ref" in value:
            name, _, pointer = value["$ref"].partition("#")
            if name:
                where = File(where.path.parent / pathlib.PurePosixPath(name).name)
            value = where.document
            for part in pointer.strip("/").split("/"):
                value = value[part.replace("~1", "/").replace("~0", "~")]
        return where, value

    def codes(self, value):
        """The codes that an answer's schema allows; examples don't count."""
        where, value = self.follow(value)
        if not isinstance(value, dict):
            return set()
        found = set(value.get("properties", {}).get("code", {}).get("enum", []))
        for part in value.get("allOf", []) + value.get("oneOf", []) + value.get("anyOf", []):
            found |= where.codes(part)
        return found

    def answers(self, operation):
        for status, answer in operation["responses"].items():
            where, answer = self.follow(answer)
            content = answer.get("content", {}).values()
            codes = set().union(*(where.codes(one.get("schema", {})) for one in content))
            if int(status) >= 400 and content and not codes:
                sys.exit(f"{self.path.name}: {operation['operationId']} {status} has no codes")
            for code in sorted(codes) if int(status) >= 400 else ["-"]:
                yield status, code

    def lines(self, name, paths):
        for path, item in paths.items():
            for method in METHODS:
                if method not in item:
                    continue
                operation = item[method]
                yield f"{name} {operation['operationId']} {method.upper()} {path}"
                for status, code in self.answers(operation):
                    yield f"{name} {operation['operationId']} {status} {code}"
                for callbacks in operation.get("callbacks", {}).values():
                    yield from self.lines(f"{name}/callback", self.follow(callbacks)[1])


for argument in sys.argv[1:]:
    file = File(pathlib.Path(argument))
    print(*file.lines(file.path.stem, file.document["paths"]), sep="\n")
