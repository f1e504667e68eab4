#!/usr/bin/env python3
"""inspected.py RUNTIME ROOT ID: compares what `RUNTIME inspect --json` says of a container with /proc and the files of its cgroup.

Prints each entry that does not agree with the kernel, and ends with 1 if there is one. The last line names the entries that the
runtime itself marks as differences from config.json: `differences: none`, or their sections and names."""

import json
import os
import subprocess
import sys

runtime, root, container = sys.argv[1:]
output = subprocess.run([runtime, "--root", root, "inspect", "--json", container], capture_output=True, text=True, check=True)
inspected = json.loads(output.stdout)
proc = f"/proc/{inspected['pid']}"
compared, wrong = 0, []


def read(path):
    with open(path, errors="replace") as file:
        return file.read()


def entries(section):
    return {entry["name"]: entry for entry in inspected[section]}


def compare(what, shown, kernels):
    global compared
    compared += 1
    if shown != kernels:
        wrong.append(f"{what}: inspect says {shown!r}, the kernel {kernels!r}")


def unescape(word):
    return word.encode("latin1", "replace").decode("unicode_escape")


status = dict(line.split(":", 1) for line in read(f"{proc}/status").splitlines())
status = {name: value.strip() for name, value in status.items()}

for name, entry in entries("namespaces").items():
    kernels = os.readlink(f"{proc}/ns/{name}").partition("[")[2].rstrip("]")
    compare(f"namespace {name}", (entry["actual"] or "").split(" ")[0], kernels)

for name, field in [("bounding", "CapBnd"), ("effective", "CapEff"), ("permitted", "CapPrm"), ("inheritable", "CapInh"), ("ambient", "CapAmb")]:
    words = entries("capabilities")[name]["actual"].split(" ")
    count = int(words[1]) if words[0] == "all" else len([word for word in words if word != "none"])
    compare(f"capabilities {name}", count, int(status[field], 16).bit_count())

confinement = entries("confinement")
compare("no_new_privs", confinement["no_new_privs"]["actual"], "true" if status["NoNewPrivs"] == "1" else "false")
filters = int(status["Seccomp_filters"])
compare("seccomp", confinement["seccomp"]["actual"], "none" if filters == 0 else f"{filters} filter" + "s" * (filters > 1))
if "apparmor" in confinement:
    compare("apparmor", confinement["apparmor"]["actual"], read(f"{proc}/attr/apparmor/current").rstrip("\n\0"))

own = next(line[3:] for line in read(f"{proc}/cgroup").splitlines() if line.startswith("0::"))
cgroup = f"/sys/fs/cgroup{own}"
limits = entries("limits")
compare("cgroup", limits["cgroup"]["actual"], cgroup)
for name, entry in limits.items():
    if "." in name and entry["actual"] is not None and ":" not in entry["actual"]:
        compare(f"limit {name}", entry["actual"], read(f"{cgroup}/{name}").rstrip())

mounts = {}
for line in read(f"{proc}/mountinfo").splitlines():
    left, right = line.split(" - ")
    left, kind = left.split(" "), right.split(" ")[0]
    mounts[unescape(left[4])] = f"{kind} {left[5]}"
for name, entry in entries("mounts").items():
    if entry["actual"] is not None and name in mounts:
        compare(f"mount {name}", " ".join(entry["actual"].split(" ")[:2]), mounts[name])
shown = set(entries("mounts")) | set(entries("paths"))
compare("mounts that are not shown", sorted(set(mounts) - shown), [])

labels = {"RLIMIT_NOFILE": "Max open files", "RLIMIT_NPROC": "Max processes", "RLIMIT_CORE": "Max core file size"}
lines = read(f"{proc}/limits").splitlines()
for name, entry in entries("rlimits").items():
    if name in labels:
        words = next(line for line in lines if line.startswith(labels[name]))[len(labels[name]):].split()
        compare(name, entry["actual"], f"{words[0]} {words[1]}")

for line in wrong:
    print(line)
sections = [(section, entry) for section, value in inspected.items() if isinstance(value, list) for entry in value]
differences = [f"{section} {entry['name']}" for section, entry in sections if entry["differs"]]
for section, entry in sections:
    if entry["differs"]:
        print(f"{section}: {json.dumps(entry)}")
print(f"{compared} entries compared with the kernel, {len(wrong)} wrong")
print("differences:", ", ".join(differences) or "none")
sys.exit(1 if wrong or compared < 20 else 0)
