"""cmake --install: a C program builds against what is installed, by pkg-config and by find_package, shared and static."""
import os
import re
import shlex
import shutil
import subprocess
import unittest

from common import Case, model

BUILD = os.environ.get("FERRUM_BUILD")

PROGRAM = r"""
#include <ferrum/ferrum.h>
#include <stdio.h>

int main(int argc, char **argv) {
    ferrum_model *model;
    ferrum_error err;
    if (argc < 2 || ferrum_model_open(&model, argv[1], NULL, &err) != 0) return 1;
    ferrum_model_info info;
    ferrum_model_get_info(model, &info);
    printf("%s %s\n", ferrum_version(), info.name);
    ferrum_model_close(model);
    return 0;
}
"""
PROJECT = """
cmake_minimum_required(VERSION 3.22)
project(user C)
find_package(ferrum 0.1 REQUIRED)
add_executable(shared user.c)
target_link_libraries(shared PRIVATE ferrum::ferrum)
add_executable(static user.c)
target_link_libraries(static PRIVATE ferrum::ferrum_static)
"""


@unittest.skipUnless(BUILD, "FERRUM_BUILD names no build folder")
class Install(Case):
    def command(self, *arguments, env=None):
        result = subprocess.run(arguments, env=dict(os.environ, **(env or {})), capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, f"{shlex.join(arguments)}\n{result.stdout}{result.stderr}")
        return result.stdout

    def setUp(self):
        super().setUp()
        self.prefix = os.path.join(self.folder, "prefix")
        self.command("cmake", "--install", BUILD, "--prefix", self.prefix)
        self.lib = next(path for path, _, files in os.walk(self.prefix) if "libferrum.so" in files)
        self.env = {"PKG_CONFIG_PATH": os.path.join(self.lib, "pkgconfig"), "LD_LIBRARY_PATH": self.lib}
        self.source = self.file("user.c", PROGRAM)

    def check(self, program, shared):
        version = self.command(os.path.join(self.prefix, "bin", "ferrum"), "--version").split()[1]
        self.assertEqual(self.command(program, model("tiny-llama"), env=self.env), f"{version} tiny-llama\n")
        needed = self.command("readelf", "-d", program)
        self.assertEqual("libferrum.so.0" in needed, shared)

    def test_the_servers_files(self):
        with open(os.path.join(self.prefix, "lib", "systemd", "system", "ferrum.service")) as file:
            unit = file.read()
        self.assertRegex(unit, r"\nExecStart=/\S+/bin/ferrum serve ")
        self.assertNotIn("@", unit.replace("@system-service", "").replace("@privileged", ""))
        for path in "lib/sysusers.d/ferrum.conf", "share/ferrum/grafana.json":
            self.assertGreater(os.path.getsize(os.path.join(self.prefix, path)), 0)
        if shutil.which("systemd-analyze"):
            local = self.file("ferrum.service", re.sub(r"(?<=ExecStart=)\S+", os.path.join(self.prefix, "bin", "ferrum"), unit))
            self.command("systemd-analyze", "verify", "--man=no", local)

    def flags(self, *arguments):
        return shlex.split(self.command("pkg-config", *arguments, "ferrum", env=self.env))

    def test_pkg_config_shared(self):
        program = os.path.join(self.folder, "user")
        self.command("cc", "-Wall", "-Werror", self.source, "-o", program, *self.flags("--cflags", "--libs"))
        self.check(program, shared=True)

    def test_pkg_config_static(self):
        program = os.path.join(self.folder, "user")
        self.command("cc", "-static", self.source, "-o", program, *self.flags("--cflags", "--libs", "--static"))
        self.check(program, shared=False)

    def test_find_package(self):
        self.file("CMakeLists.txt", PROJECT)
        build = os.path.join(self.folder, "build")
        self.command("cmake", "-S", self.folder, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}", env=self.env)
        self.command("cmake", "--build", build)
        self.check(os.path.join(build, "shared"), shared=True)
        self.check(os.path.join(build, "static"), shared=False)

    def test_pages_and_completions(self):
        for path in ("man/man1/ferrum.1", "man/man1/ferrum-run.1", "bash-completion/completions/ferrum", "zsh/site-functions/_ferrum",
                     "fish/vendor_completions.d/ferrum.fish"):
            self.assertTrue(os.path.getsize(os.path.join(self.prefix, "share", path)))

    def test_only_public_names_are_exported(self):
        names = [line.split()[-1] for line in
                 self.command("nm", "-D", "--defined-only", os.path.join(self.lib, "libferrum.so")).splitlines()]
        self.assertIn("ferrum_model_open", names)
        self.assertEqual([name for name in names if not name.startswith("ferrum_")], [])


if __name__ == "__main__":
    unittest.main()
