"""Makes the packages and uses them where nothing else is installed: packages_test.py --build FOLDER --work FOLDER …

The system that they are tried on is made of this machine's: the files of Debian's essential packages and of what the
package names as its dependencies, with dpkg's notes of them. With --bootstrap it is Debian 12 as debootstrap makes it,
and apt finds the dependencies; that takes minutes, the network and being root. Where no system can be entered, as in
some containers, only what is in the packages is looked at.
"""

import argparse
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tarfile

PROMPT = ["generate", "-m", "/model.gguf", "--temp", "0", "-n", "8", "-p", "Hello"]
# Not needed to run anything, and half of all files.
LEFT_OUT = re.compile(r"^/usr/share/(doc|man|locale|info|lintian)/")


def run(*command, **options):
    """The standard output of a command that must succeed."""
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result.stdout


def expect(true, message):
    if not true:
        sys.exit(message)


class Installed:
    """What dpkg knows to be installed on this machine."""

    def __init__(self):
        self.stanzas, self.provided = {}, {}
        for text in pathlib.Path("/var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n"):
            fields = dict(re.findall(r"^([\w-]+):[ \t]*(.*)$", text, re.MULTILINE))
            if fields.get("Status", "").endswith(" installed"):
                name = fields["Package"]
                self.stanzas[name] = (text.strip("\n"), fields)
                for provided in re.findall(r"[\w.+-]+(?=\s*(?:\(|,|$))", fields.get("Provides", "")):
                    self.provided.setdefault(provided, name)

    def essential(self):
        return [name for name, (_, fields) in self.stanzas.items() if fields.get("Essential") == "yes"]

    def closure(self, names):
        """All packages that these need, themselves included."""
        seen, todo = [], list(names)
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.append(name)
            fields = self.stanzas[name][1]
            todo += self.needed(fields.get("Pre-Depends", "")) + self.needed(fields.get("Depends", ""))
        return seen

    def needed(self, relation):
        """One installed package for each of a list of dependencies."""
        found = []
        for alternatives in filter(None, (part.strip() for part in relation.split(","))):
            names = [re.match(r"[\w.+-]+", one.strip()).group() for one in alternatives.split("|")]
            names = [name if name in self.stanzas else self.provided.get(name) for name in names]
            name = next((name for name in names if name), None)
            expect(name, f"not installed on this machine: {alternatives}")
            found.append(name)
        return found

    def copy(self, names, root):
        """Puts the packages' files under `root`, and dpkg's notes of them."""
        for folder in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/lib32", "usr/libx32", "tmp", "proc", "root",
                       "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/log", "etc"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32"):
            if os.path.islink("/" + name):
                (root / name).symlink_to("usr/" + name)
        for name in names:
            for line in run("dpkg-query", "-L", name).splitlines():
                if line.startswith("/") and line != "/." and not LEFT_OUT.match(line):
                    copy_file(line, root)
            for note in pathlib.Path("/var/lib/dpkg/info").glob(f"{name}[.:]*"):
                if note.name.split(":")[0].rsplit(".", 1)[0] == name or note.name.startswith(f"{name}:"):
                    shutil.copy2(note, root / "var/lib/dpkg/info")
        stanzas = "\n\n".join(self.stanzas[name][0] for name in names) + "\n\n"
        (root / "var/lib/dpkg/status").write_text(stanzas, encoding="utf-8")
        (root / "var/lib/dpkg/triggers/ldconfig").write_text("libc-bin/noawait\n", encoding="utf-8")
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", encoding="utf-8")
        (root / "etc/group").write_text("root:x:0:\n", encoding="utf-8")


def copy_file(name, root):
    """`name` of this machine under `root`, in the folder where it really lies."""
    folder = os.path.realpath(os.path.dirname(name))
    source, target = os.path.join(folder, os.path.basename(name)), root / folder[1:] / os.path.basename(name)
    try:
        kind = os.lstat(source).st_mode
    except FileNotFoundError:
        return  # Removed by hand, as documentation often is.
    if target.is_symlink() or target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(kind):
        target.symlink_to(os.readlink(source))
    elif stat.S_ISDIR(kind):
        target.mkdir(exist_ok=True)
    elif stat.S_ISREG(kind):
        shutil.copy2(source, target)


# In a mount namespace of its own, which takes /proc with it when it ends. Without being root, in one of users as well.
ENTER = ["unshare", "--mount", "sh", "-c", 'mount --rbind /proc "$0/proc" && exec chroot "$0" "$@"']
if os.geteuid() != 0:
    ENTER.insert(1, "--map-root-user")


def can_enter(folder):
    (folder / "try/proc").mkdir(parents=True)
    command = [*ENTER[:-1], 'mount --rbind /proc "$0/proc"', folder / "try"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def in_root(root, *command):
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8",
                   "DEBIAN_FRONTEND": "noninteractive"}
    return run(*ENTER, root, *command, env=environment)


def make(options):
    """The packages: a .tar.gz, and the .deb files by name."""
    run(pathlib.Path(options.cmake).parent / "cpack", "--config", options.build / "CPackConfig.cmake",
        "-B", options.work / "packages", "-G", "TGZ;DEB", cwd=options.work)
    archives = list((options.work / "packages").glob("*.tar.gz"))
    debs = {run("dpkg-deb", "-f", path, "Package").strip(): path for path in (options.work / "packages").glob("*.deb")}
    expect(len(archives) == 1 and sorted(debs) == ["lapidary", "liblapidary-dev"], f"made {archives} and {debs}")
    return archives[0], debs


def look_inside(options, archive, debs):
    """What is in the packages, and that a program can be built with them."""
    depends = run("dpkg-deb", "-f", debs["lapidary"], "Depends").strip()
    for name in ("libc6", "libstdc++6", "libsentencepiece0"):
        expect(re.search(rf"\b{re.escape(name)} \(|\b{re.escape(name)}\b", depends), f"no {name} among: {depends}")
    expect("libssl" not in depends, f"libssl among: {depends}")
    print("lapidary depends on:", depends)
    print("liblapidary-dev depends on:", run("dpkg-deb", "-f", debs["liblapidary-dev"], "Depends").strip())

    tree = options.work / "tree"
    for path in debs.values():
        run("dpkg-deb", "-x", path, tree)
    for name in ("usr/bin/lapidary", "usr/include/lapidary/lapidary.h", "usr/include/lapidary/export.h",
                 "usr/share/doc/lapidary/LICENSE", "usr/share/doc/liblapidary-dev/THIRD-PARTY.md",
                 "usr/share/man/man1/lapidary.1"):
        expect((tree / name).is_file(), f"no {name} in the packages")
    with tarfile.open(archive) as file:
        packed = {name.split("/", 1)[1] for name in file.getnames() if "/" in name}
    unpacked = {"/".join(path.relative_to(tree / "usr").parts) for path in (tree / "usr").rglob("*")}
    wrong = {name for name in packed ^ unpacked if not re.search(r"LapidaryTargets-\w+\.cmake$", name)}
    expect(not wrong, f"the archive and the .deb files differ: {sorted(wrong)}")

    run(options.cmake, "-S", options.consumer, "-B", options.work / "consumer",
        "-G", "Ninja" if shutil.which("ninja") else "Unix Makefiles", f"-DCMAKE_PREFIX_PATH={tree / 'usr'}",
        f"-DCMAKE_CXX_COMPILER={options.cxx}")
    run(options.cmake, "--build", options.work / "consumer")
    expect(run(options.work / "consumer/consumer", options.model, "Hello"), "the consumer wrote nothing")


def small_root(options, deb):
    """A system of the essential packages and what `deb` depends on."""
    root = options.work / "root"
    installed = Installed()
    names = installed.closure(installed.essential() + installed.needed(run("dpkg-deb", "-f", deb, "Depends").strip()))
    installed.copy(names, root)
    in_root(root, "/sbin/ldconfig")
    print(f"{len(names)} packages make the system")
    return root


def bootstrapped_root(options):
    """Debian 12 without anything else, from the mirror that this machine uses."""
    root = options.work / "root"
    mirror = "http://deb.debian.org/debian"
    for path in pathlib.Path("/etc/apt").glob("**/*"):
        if path.suffix in (".list", ".sources") and path.is_file():
            text = path.read_text(encoding="utf-8")
            if found := re.search(r"(?:^deb .*?|^URIs:\s*)(https?://\S+/debian)/?\s", text, re.MULTILINE):
                mirror = found.group(1)
                break
    run("debootstrap", "--variant=minbase", "bookworm", root, mirror)
    for name in ("/etc/resolv.conf", "/etc/hosts"):
        shutil.copy(name, root / name[1:])
    for path in pathlib.Path("/etc/apt/apt.conf.d").glob("*"):
        if re.search(r"^\s*Acquire::https?::", path.read_text(encoding="utf-8"), re.MULTILINE):
            shutil.copy(path, root / "etc/apt/apt.conf.d")
    return root


def main():
    parser = argparse.ArgumentParser()
    for name in ("build", "work", "model", "consumer"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--cmake", default=shutil.which("cmake"))
    parser.add_argument("--cxx", default="c++")
    parser.add_argument("--bootstrap", action="store_true")
    options = parser.parse_args()
    options.build, options.work = options.build.resolve(), options.work.resolve()
    if not shutil.which("dpkg-deb") or not shutil.which("dpkg-shlibdeps"):
        print("no dpkg-deb and dpkg-shlibdeps on this machine")
        sys.exit(77)
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    archive, debs = make(options)
    look_inside(options, archive, debs)
    if not shutil.which("unshare") or not can_enter(options.work):
        print("no way to change the root folder here: the packages were not installed anywhere")
        return

    root = bootstrapped_root(options) if options.bootstrap else small_root(options, debs["lapidary"])
    shutil.copy(options.model, root / "model.gguf")
    expected = run(options.build / "lapidary", *[options.model if word == "/model.gguf" else word for word in PROMPT])

    # apt brings the libraries; with them the archive runs from anywhere.
    shutil.copy(debs["lapidary"], root / "lapidary.deb")
    if options.bootstrap:
        in_root(root, "apt-get", "update")
        in_root(root, "apt-get", "install", "-y", "--no-install-recommends", "/lapidary.deb")
    else:
        in_root(root, "dpkg", "--install", "/lapidary.deb")
    status = in_root(root, "dpkg", "--status", "lapidary")
    expect("Status: install ok installed" in status, status)
    text = in_root(root, "/usr/bin/lapidary", *PROMPT)
    expect(text == expected and text, f"expected {expected!r}, got {text!r}")
    in_root(root, "dpkg", "--remove", "lapidary")
    expect(not (root / "usr/bin/lapidary").exists(), "removed, but still there")

    with tarfile.open(archive) as file:
        file.extractall(root / "opt")
    program = next((root / "opt").glob("*/bin/lapidary"))
    text = in_root(root, "/" + str(program.relative_to(root)), *PROMPT)
    expect(text == expected, f"expected {expected!r}, got {text!r}")
    print("both packages ran, and wrote", repr(text))

    # A program built on the fresh system, with what the other package brings.
    if options.bootstrap:
        for name, path in debs.items():
            shutil.copy(path, root / f"{name}.deb")
        shutil.copy(options.consumer / "consumer.cpp", root)
        in_root(root, "apt-get", "install", "-y", "--no-install-recommends", "g++", "pkg-config", "/lapidary.deb",
                "/liblapidary-dev.deb")
        in_root(root, "sh", "-c", "g++ -std=c++20 /consumer.cpp -o /consumer $(pkg-config --cflags --libs lapidary)")
        print("and a program built there wrote", repr(in_root(root, "/consumer", "/model.gguf", "Hello")))
    shutil.rmtree(options.work)


if __name__ == "__main__":
    main()
