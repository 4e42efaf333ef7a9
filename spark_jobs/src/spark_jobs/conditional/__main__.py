"""`python -m spark_jobs.conditional FOLDER`: compile the classes here into a jar beside the jars they lean on.

Janino, which Spark compiles its queries with, needs no JDK: the Java from PyPI has no `javac`.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pyspark
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from py4j.protocol import Py4JJavaError

from data_platform_core.files import whole_file

CLASSES = ("ConditionalWrite", "ConditionalLogStore", "ConditionalCheckpoints")
"""In this order: each may lean on those before it."""
JAR = "crm-conditional.jar"


def compile_into(folder: Path) -> Path:
    """Compile the classes; `folder` holds Delta's and S3A's jars. Returns the jar."""
    sparks_own = Path(pyspark.__file__).parent / "jars"
    port, token = launch_gateway(
        classpath=f"{sparks_own}/*:{folder}/*", die_on_exit=True, enable_auth=True, redirect_stderr=sys.stderr
    )
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token))
    classes: dict[str, bytes] = {}
    try:
        loader = gateway.jvm.java.lang.ClassLoader.getSystemClassLoader()
        for name in CLASSES:
            compiler = gateway.jvm.org.codehaus.janino.SimpleCompiler()
            compiler.setParentClassLoader(loader)
            compiler.cook(Path(__file__).with_name(f"{name}.java").read_text())
            classes |= {found: bytes(compiler.getBytecodes()[found]) for found in compiler.getBytecodes()}
            loader = compiler.getClassLoader()
    finally:
        gateway.shutdown()
    with whole_file(folder / JAR) as file, zipfile.ZipFile(file, "w") as jar:
        for name, code in classes.items():
            jar.writestr(f"{name.replace('.', '/')}.class", code)
    return folder / JAR


if __name__ == "__main__":
    try:
        print(compile_into(Path(sys.argv[1])))
    except Py4JJavaError as error:
        sys.exit(f"the classes of conditional writes could not be compiled: {str(error.java_exception).strip()}")
