#!/usr/bin/env python3
"""cri.py METHOD [JSON]: one call of the Container Runtime Interface, v1, as a kubelet makes it; prints the answer as JSON.
cri.py exec [-t] ID CMD...: a command in a container by the streaming server, with our stdin; its exit status is ours.

Members of a message are those of the interface's api.proto, as far as `MESSAGES` lists them; an enumeration is its number.
The engine is at $CRI_SOCKET. Needs nothing but Python: gRPC is HTTP/2 with one request a connection here.
"""

import base64
import json
import os
import socket
import struct
import sys
import urllib.parse

# Of each message, the members with their numbers and types: i integer, s string, b bytes, m map of
# strings, else a message. `*` repeats.
MESSAGES = {
    line.split(":")[0]: {
        member.split("=")[0]: (int(member.split("=")[1]), member.split("=")[2]) for member in line.split(":")[1].split()
    }
    for line in """
Capability: add_capabilities=1=s* drop_capabilities=2=s*
ContainerConfig: metadata=1=Metadata image=2=Image command=3=s* args=4=s* working_dir=5=s envs=6=KeyValue* mounts=7=Mount* devices=8=Device* labels=9=m annotations=10=m log_path=11=s stdin=12=i stdin_once=13=i tty=14=i linux=15=LinuxContainer
ContainerId: container_id=1=s
ContainerRequest: pod_sandbox_id=1=s config=2=ContainerConfig sandbox_config=3=Pod
ContainerStatistics: cpu=2=Cpu memory=3=Memory
ContainerStatus: id=1=s state=3=i exit_code=7=i reason=10=s message=11=s resources=16=ContainerResources
ContainerResources: linux=1=Resources
Cpu: usage_core_nano_seconds=2=Number
Device: container_path=1=s host_path=2=s permissions=3=s
Exec: container_id=1=s cmd=2=s* tty=3=i stdin=4=i stdout=5=i stderr=6=i
ExecSync: container_id=1=s cmd=2=s* timeout=3=i
ExecSyncAnswer: stdout=1=b stderr=2=b exit_code=3=i
Id: id=1=s
Image: image=1=s
KeyValue: key=1=s value=2=s
LinuxContainer: resources=1=Resources security_context=2=Security
LinuxPod: cgroup_parent=1=s security_context=2=PodSecurity sysctls=3=m
Mapping: host_id=1=i container_id=2=i length=3=i
Memory: working_set_bytes=2=Number usage_bytes=4=Number
Metadata: name=1=s attempt=2=i
Mount: container_path=1=s host_path=2=s readonly=3=i propagation=5=i recursive_read_only=8=i
Namespaces: network=1=i pid=2=i ipc=3=i target_id=4=s userns_options=5=UserNamespace
Nothing:
Number: value=1=i
Pod: metadata=1=PodMetadata hostname=2=s log_directory=3=s labels=6=m annotations=7=m linux=8=LinuxPod
PodMetadata: name=1=s uid=2=s namespace=3=s attempt=4=i
PodRequest: config=1=Pod runtime_handler=2=s
PodSandboxId: pod_sandbox_id=1=s
PodSecurity: namespace_options=1=Namespaces run_as_user=3=Number privileged=6=i seccomp=9=Profile apparmor=10=Profile
Profile: profile_type=1=i localhost_ref=2=s
Resources: cpu_period=1=i cpu_quota=2=i cpu_shares=3=i memory_limit_in_bytes=4=i oom_score_adj=5=i cpuset_cpus=6=s cpuset_mems=7=s unified=9=m memory_swap_limit_in_bytes=10=i
Security: capabilities=1=Capability privileged=2=i namespace_options=3=Namespaces run_as_user=5=Number readonly_rootfs=7=i supplemental_groups=8=i* no_new_privs=11=i run_as_group=12=Number masked_paths=13=s* readonly_paths=14=s* seccomp=15=Profile apparmor=16=Profile
StatsAnswer: stats=1=ContainerStatistics
Status: status=1=ContainerStatus
Stop: container_id=1=s timeout=2=i
Update: container_id=1=s linux=2=Resources
Url: url=1=s
UserNamespace: mode=1=i uids=2=Mapping* gids=3=Mapping*
Version: version=1=s runtime_name=2=s runtime_version=3=s
""".strip().splitlines()
}
METHODS = {
    "Version": ("Version", "Version"),
    "RunPodSandbox": ("PodRequest", "PodSandboxId"),
    "StopPodSandbox": ("PodSandboxId", "Nothing"),
    "RemovePodSandbox": ("PodSandboxId", "Nothing"),
    "CreateContainer": ("ContainerRequest", "ContainerId"),
    "StartContainer": ("ContainerId", "Nothing"),
    "StopContainer": ("Stop", "Nothing"),
    "RemoveContainer": ("ContainerId", "Nothing"),
    "ContainerStatus": ("ContainerId", "Status"),
    "ContainerStats": ("ContainerId", "StatsAnswer"),
    "UpdateContainerResources": ("Update", "Nothing"),
    "ExecSync": ("ExecSync", "ExecSyncAnswer"),
    "Exec": ("Exec", "Url"),
}

# RFC 7541, appendix B: the lengths of the codes of all bytes and of the end, as digits of base 36.
# The codes themselves follow from them.
LENGTHS = (
    "DNSSSSSSSOUSSUSSSSSSSSUSSSSSSSSS6AACD68BAA8B8666555666666678F6CAD67777777777777777777777878DJDE6F56565666577666567655677777FBEDSK"
    "MKKMMMNMNNNNNONOOMNONNNNLMNMNNOMLKMMNNLNMMOLMNNLLMLNMNNKMMMNMMNQQKJMNMPQQQRRQOPJLQRRQROLLQQSRRRKOKLMLLNMMPPOOQNQRQQRRRRRSRRRRRQU"
)


def fail(text):
    sys.exit(f"cri: {text}")


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def encode(message, value):
    out = b""
    for name, item in value.items():
        if name not in MESSAGES[message]:
            fail(f"{message} has no member {name} here")
        number, kind = MESSAGES[message][name]
        items = [{"key": k, "value": v} for k, v in item.items()] if kind == "m" else item if kind.endswith("*") else [item]
        kind = "KeyValue" if kind == "m" else kind.rstrip("*")
        for one in items:
            if kind == "i":
                out += varint(number << 3) + varint(int(one))
                continue
            data = one.encode() if kind == "s" else one if kind == "b" else encode(kind, one)
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def decode(message, data):
    members = {number: (name, kind) for name, (number, kind) in MESSAGES[message].items()}
    value, at = {}, 0

    def take():
        nonlocal at
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    while at < len(data):
        tag = take()
        if tag & 7 == 0:
            item = take()
        else:
            length = {1: 8, 5: 4}.get(tag & 7) or take()
            item = data[at : at + length]
            at += length
        if tag >> 3 not in members:
            continue
        name, kind = members[tag >> 3]
        if kind in ("s", "b"):
            item = item.decode(errors="replace")
        elif kind != "i":
            item = decode(kind, item)
        value[name] = item
    return value


def huffman():
    """The byte of each code, by the code's length and number: codes of one length follow each other, and each length the one before."""
    codes, code, before = {}, 0, 0
    for length, byte in sorted((int(digit, 36), byte) for byte, digit in enumerate(LENGTHS)):
        code <<= length - before
        codes[length, code] = byte
        code, before = code + 1, length
    return codes


def headers(block):
    """Those fields of a header block that come with their names in full, as gRPC's own do."""
    at, found, codes = 0, {}, huffman()

    def integer(bits):
        nonlocal at
        most = (1 << bits) - 1
        number, shift = block[at] & most, 0
        at += 1
        while number >= most:
            byte = block[at]
            at += 1
            number += (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        return number

    def text():
        nonlocal at
        packed = block[at] & 128
        length = integer(7)
        data = block[at : at + length]
        at += length
        if not packed:
            return data.decode()
        out, code, bits = bytearray(), 0, 0
        for byte in data:
            for shift in range(7, -1, -1):
                code, bits = code << 1 | byte >> shift & 1, bits + 1
                if (bits, code) in codes:
                    out.append(codes[bits, code])
                    code = bits = 0
        return out.decode()

    while at < len(block):
        first = block[at]
        if first & 128:
            integer(7)
        elif first & 0xE0 == 0x20:
            integer(5)
        else:
            index = integer(6 if first & 64 else 4)
            name = text() if index == 0 else None
            value = text()
            if name:
                found[name] = value
    return found


def exactly(stream, length):
    data = stream.read(length)
    if len(data) < length:
        fail("the connection ended too early")
    return data


def frame(kind, flags, stream, data=b""):
    return struct.pack(">I", len(data))[1:] + struct.pack(">BBI", kind, flags, stream) + data


def call(method, value):
    request, answer = METHODS[method]
    body = encode(request, value)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(110)
    connection.connect(os.environ.get("CRI_SOCKET", "/run/containerd/containerd.sock"))
    block = b""
    for name, text in [(":method", "POST"), (":scheme", "http"), (":path", f"/runtime.v1.RuntimeService/{method}"), (":authority", "localhost"),
                       ("content-type", "application/grpc"), ("te", "trailers")]:
        block += bytes([0, len(name)]) + name.encode() + bytes([len(text)]) + text.encode()
    # No dictionary of headers, and windows that no answer fills.
    settings = struct.pack(">HIHI", 1, 0, 4, 1 << 30)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings) + frame(8, 0, 0, struct.pack(">I", 1 << 30))
                       + frame(1, 4, 1, block) + frame(0, 1, 1, b"\0" + struct.pack(">I", len(body)) + body))
    stream = connection.makefile("rb")
    data, found, block = b"", {}, b""
    while True:
        head = exactly(stream, 9)
        kind, flags, number = struct.unpack(">BBI", head[3:])
        payload = exactly(stream, int.from_bytes(head[:3], "big"))
        if kind == 4 and not flags & 1:
            connection.sendall(frame(4, 1, 0))
        elif kind == 6 and not flags & 1:
            connection.sendall(frame(6, 1, 0, payload))
        elif kind in (3, 7):
            fail(f"{method}: the engine breaks off with code {struct.unpack('>I', payload[-4:] if kind == 3 else payload[4:8])[0]}")
        elif number == 1 and kind == 0:
            data += payload
        elif number == 1 and kind in (1, 9):
            block += payload
            if flags & 4:
                found |= headers(block)
                block = b""
        if number == 1 and kind == 1 and flags & 1:
            break
    if found.get("grpc-status") != "0":
        fail(f"{method}: code {found.get('grpc-status')}: {urllib.parse.unquote(found.get('grpc-message', ''))}")
    return decode(answer, data[5:])


def execute(arguments):
    tty = arguments[0] == "-t"
    container, *command = arguments[tty:]
    url = urllib.parse.urlsplit(call("Exec", {"container_id": container, "cmd": command, "tty": tty, "stdin": 1, "stdout": 1, "stderr": not tty})["url"])
    connection = socket.create_connection((url.hostname, url.port), 110)
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                       f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n".encode())
    stream = connection.makefile("rb")
    first = stream.readline()
    if b" 101 " not in first:
        fail(f"exec: {first.decode().strip()}")
    while stream.readline().strip():
        pass
    # Channel 0 is stdin: all of ours in one frame, which is masked by zeros.
    text = b"\0" + sys.stdin.buffer.read()
    connection.sendall(b"\x82" + bytes([128 | 126]) + struct.pack(">H", len(text)) + bytes(4) + text)
    while True:
        kind, length = exactly(stream, 2)
        if length > 125:
            length = int.from_bytes(exactly(stream, 2 if length == 126 else 8), "big")
        data = exactly(stream, length)
        if kind & 15 == 8:
            fail("exec: closed without an exit status")
        if kind & 15 != 2 or len(data) < 2:
            continue
        if data[0] == 3:
            break
        out = sys.stderr if data[0] == 2 else sys.stdout
        out.buffer.write(data[1:])
        out.flush()
    status = json.loads(data[1:])
    if status["status"] == "Success":
        return
    for cause in status.get("details", {}).get("causes", []):
        if cause["reason"] == "ExitCode":
            sys.exit(int(cause["message"]))
    fail(f"exec: {status.get('message')}")


if len(sys.argv) > 3 and sys.argv[1] == "exec":
    execute(sys.argv[2:])
elif 2 <= len(sys.argv) <= 3 and sys.argv[1] in METHODS:
    print(json.dumps(call(sys.argv[1], json.loads(sys.argv[2] if len(sys.argv) == 3 else "{}"))))
else:
    fail(f"usage: METHOD [JSON], of {' '.join(METHODS)}; or exec [-t] ID CMD...")
