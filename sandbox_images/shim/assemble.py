"""Gathers a small self-contained Python under one directory, for the shim.

Runs while the shim's image is built, under the base image's Python, be it a distribution's
(extension modules linked in) or python.org's (libpython and lib-dynload). Whatever the interpreter
needs comes along: its binary, the standard modules that shim.py imports as bytecode, the shared
libraries and the dynamic loader.
"""

import ast
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parent
CODECS = ("encodings.aliases", "encodings.ascii", "encodings.latin_1", "encodings.utf_8")

# The loader reads these before the first instruction of ours, from the hostile image: a preload
# file there would put the agent's code into PID 1. `--inhibit-cache` takes care of the cache; for
# the preload file there is no option, so its name is replaced in our copy of the loader by one
# of the same length in the read-only volume, where no such file exists.
PRELOAD = b"/etc/ld.so.preload\0"
NO_PRELOAD = b"/opt/agenttrace/np\0"


def main(destination):
    """Fills `destination`; raises SystemExit when the result would be incomplete or unsafe."""
    binaries = [Path(sys.executable).resolve()]
    install(binaries[0], destination / "bin/python3", 0o755)
    binaries += install_modules(imported_by(SOURCES / "shim.py"), destination)
    loader = install_libraries(binaries, destination / "lib")
    install_loader(loader, destination / "lib/ld.so")
    install_shim(destination)
    install_landmark(destination / "lib")
    smoke_test(destination)
    report(destination)


def install(source, target, mode=0o644):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def imported_by(script):
    """Names of all modules that `script` imports anywhere."""
    names = set(CODECS)
    for node in ast.walk(ast.parse(script.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return sorted(names)


def install_modules(names, destination):
    """Copies the modules that importing `names` loads; returns the extension modules."""
    library = Path(os.__file__).parent
    target = destination / "lib" / library.name
    (target / "lib-dynload").mkdir(parents=True)  # by which Python recognises its exec_prefix
    extensions = []
    for file in [library / "os.py", *loaded_files(names)]:  # os.py: so it recognises its prefix
        if file.suffix == ".py":
            compile_to(file, target / file.relative_to(library).with_suffix(".pyc"))
        else:
            extensions.append(file)
            install(file, target / "lib-dynload" / file.name, 0o755)
    return extensions


def loaded_files(names):
    """Source and extension files of every module in memory after importing `names`.

    By name as well as by `__file__`: collections.abc puts another module in its own place.
    """
    script = (
        f"import {', '.join(names)}, os, sys\n"
        "library = os.path.dirname(os.__file__)\n"
        "for name, module in list(sys.modules.items()):\n"
        "    print(getattr(module, '__file__', None) or '')\n"
        "    print(os.path.join(library, name.replace('.', '/') + '.py'))\n"
    )
    command = [sys.executable, "-I", "-S", "-B", "-c", script]
    listing = subprocess.run(command, check=True, capture_output=True, text=True)
    files = {Path(line) for line in listing.stdout.splitlines() if line}
    return sorted(file for file in files if file.is_file())


def compile_to(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    py_compile.compile(
        str(source),
        cfile=str(target),
        dfile=source.name,
        doraise=True,
        optimize=2 if source.parent != SOURCES else 0,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    target.chmod(0o644)


def install_libraries(binaries, target):
    """Copies the shared libraries of `binaries` by name; returns the dynamic loader's path."""
    loader = None
    for binary in binaries:
        for name, path in needed_by(binary):
            if name.startswith("ld-linux"):
                loader = path
            elif not (target / name).exists():
                install(path, target / name, 0o755)
    if loader is None:
        sys.exit(f"{binaries[0]} names no dynamic loader that we know")
    return loader


def needed_by(binary):
    """(name, path) of each shared library that the loader finds for `binary`, itself included."""
    listing = subprocess.run(["ldd", str(binary)], check=True, capture_output=True, text=True)
    for line in listing.stdout.splitlines():
        words = line.split()
        if "not found" in line:
            sys.exit(f"{binary} needs {words[0]}, which is missing")
        path = words[2] if len(words) > 2 and words[1] == "=>" else words[0]
        if path.startswith("/"):
            yield Path(words[0]).name, Path(path)


def install_loader(source, target):
    """Copies the loader, blind to the image's preload file."""
    program = source.read_bytes()
    if PRELOAD not in program:
        sys.exit(f"{source} does not hold the name of its preload file where we look for it")
    patched = program.replace(PRELOAD, NO_PRELOAD)
    if PRELOAD.rstrip(b"\0") in patched:
        sys.exit(f"{source} holds the name of its preload file in another place too")
    target.write_bytes(patched)
    target.chmod(0o755)


def install_shim(destination):
    install(SOURCES / "shim.py", destination / "shim.py")
    compile_to(SOURCES / "shim.py", destination / "shim.pyc")
    for driver in sorted((SOURCES / "drivers").glob("*.py")):
        install(driver, destination / "drivers" / driver.name)


def install_landmark(library):
    """Ends Python's search for its own place at ours.

    It looks for lib/python3XY.zip in every parent of its binary before anything else: without one
    here, an image with a file of that name in /opt/lib would have PID 1 import from /opt/lib.
    """
    (library / "python{}{}.zip".format(*sys.version_info)).touch(0o644)


def smoke_test(destination):
    """Imports in the copy all that the shim imports, with nothing but the copy to import from."""
    names = ", ".join(imported_by(SOURCES / "shim.py"))
    check = (
        f"import sys, {names}\n"
        f"assert sys.prefix == sys.exec_prefix == {str(destination)!r}, sys.prefix\n"
        "mapped = [line.split()[5] for line in open('/proc/self/maps') if '/' in line]\n"
        f"strange = [p for p in sys.path + mapped if not p.startswith({str(destination)!r})]\n"
        "assert not strange, strange\n"
    )
    library = str(destination / "lib")
    command = [f"{library}/ld.so", "--inhibit-cache", "--library-path", library]
    command += [str(destination / "bin/python3"), "-I", "-S", "-B", "-c", check]
    subprocess.run(command, check=True, env={"LC_ALL": "C", "PATH": ""})


def report(destination):
    files = [file for file in destination.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    print(f"{len(files)} files, {size / 1e6:.1f} MB under {destination}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
