//! The scheduling of container processes: policy, nice value, disk priority, CPUs, memory nodes.
//! Their cgroups are in `cgroups`, their limits in `process`.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Container, adopt, kernel, skipped};

/// Starts a detached exec with a process file and returns its pid.
fn exec_process(c: &Container, change: impl FnOnce(&mut Value)) -> i32 {
    let mut process = c.config()["process"].clone();
    for inherited in ["scheduler", "ioPriority", "execCPUAffinity"] {
        process.as_object_mut().unwrap().remove(inherited);
    }
    change(&mut process);
    let (file, pid_file) = (c.scratch().join("process"), c.scratch().join("exec.pid"));
    fs::write(&file, serde_json::to_vec(&process).unwrap()).unwrap();
    let mut command = c.command(&["exec", "--detach", "--pid-file"]);
    command
        .arg(&pid_file)
        .arg("--process")
        .arg(&file)
        .arg(&c.id);
    c.finish(command).ok();
    let pid = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    adopt(pid);
    pid
}

/// Nice value, realtime priority and policy of a process: fields 19, 40 and 41 of /proc/PID/stat.
fn scheduler(pid: i32) -> (i32, u32, u32) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let field = |number: usize| fields[number - 3];
    (
        field(19).parse().unwrap(),
        field(40).parse().unwrap(),
        field(41).parse().unwrap(),
    )
}

#[test]
fn init_and_exec_get_the_configured_scheduler() {
    let mut c = container!();
    c.edit(|c| {
        c["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": -7, "priority": 0});
        // The process has another user and no capability, so it can't set the scheduler itself.
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        c["process"]["capabilities"] = json!({});
    });
    c.create().ok();
    assert_eq!(scheduler(c.pid()), (-7, 0, 3));
    c.start().ok();
    assert_eq!(scheduler(c.pid()), (-7, 0, 3));
    assert_eq!(scheduler(exec_process(&c, |_| {})), (-7, 0, 3));
    let fifo = exec_process(&c, |p| {
        p["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 9});
    });
    assert_eq!(scheduler(fifo), (0, 9, 1));
    let text = c.exec_output("cut -d' ' -f19,40,41 /proc/self/stat");
    assert_eq!(text, "-7 0 3\n");
}

#[test]
fn a_deadline_scheduler_is_set_with_its_flags() {
    let mut c = container!();
    c.edit(|c| {
        c["process"]["scheduler"] = json!({
            "policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RESET_ON_FORK"],
            "runtime": 420_000, "deadline": 10_000_000, "period": 10_000_000,
        });
    });
    // A deadline process can fork only if it resets its scheduler on fork.
    let text = c.output_of("for p in $$ self; do cut -d' ' -f41 /proc/$p/stat; done");
    assert_eq!(text, "6\n0\n");
}

#[test]
fn values_of_a_scheduler_that_do_not_go_together_are_refused() {
    let mut c = container!();
    c.edit(|c| c["process"]["scheduler"] = json!({"policy": "SCHED_RR"}));
    let output = c.run();
    output.exits(1).one_line();
    output.says("config.json: process.scheduler.priority: 0 is not between 1 and 99");
}

#[test]
fn init_and_exec_get_the_configured_io_priority() {
    let mut c = container!();
    c.edit(|c| {
        c["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_RT", "priority": 5});
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        c["process"]["capabilities"] = json!({});
    });
    c.run_detached().ok();
    let text = c.exec_output("ionice -p 1; ionice -p $$");
    assert_eq!(text, "realtime: prio 5\nrealtime: prio 5\n");
    let idle = exec_process(&c, |p| {
        p["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
        p["args"] = json!(["/bin/sh", "-c", "ionice -p $$ > /idle; sleep 1000"]);
        p["user"] = json!({"uid": 0, "gid": 0});
    });
    assert!(idle > 0);
    c.wait_file("/idle");
    crate::harness::eventually("ionice answers", || {
        fs::read_to_string(c.rootfs("/idle")).unwrap() == "idle\n"
    });
}

#[test]
fn init_and_exec_get_the_configured_personality() {
    let mut c = container!();
    for (domain, number) in [("LINUX", "00000000"), ("LINUX32", "00000008")] {
        c.edit(|c| c["linux"]["personality"] = json!({"domain": domain}));
        c.run_detached().ok();
        let text = c.exec_output("cat /proc/1/personality /proc/self/personality");
        assert_eq!(text, format!("{number}\n{number}\n"));
        c.delete(&["--force"]).ok();
        c.wait();
    }
}

#[test]
fn flags_of_a_personality_keep_no_container_from_running() {
    let mut c = container!();
    c.edit(|c| c["linux"]["personality"] = json!({"domain": "LINUX32", "flags": ["X"]}));
    c.script("cat /proc/self/personality");
    let output = c.run();
    output.ok();
    assert_eq!(output.stdout(), "00000008\n");
}

#[test]
fn exec_runs_on_the_configured_cpus_and_init_does_not() {
    let mut c = container!();
    let own = kernel::status(std::process::id().cast_signed(), "Cpus_allowed_list");
    if own != "0-1" {
        skipped("not exactly the CPUs 0 and 1");
        return;
    }
    c.edit(|c| c["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "1"}));
    c.run_detached().ok();
    let cpus = |pid: i32| kernel::status(pid, "Cpus_allowed_list");
    assert_eq!(cpus(c.pid()), "0-1");
    let text = c.exec_output("grep Cpus_allowed_list /proc/self/status");
    assert_eq!(text, "Cpus_allowed_list:\t1\n");
    for (affinity, expected) in [
        (json!({"initial": "0"}), "0"),
        (json!({"final": "0-1"}), "0-1"),
        (json!({"initial": "1", "final": "0"}), "0"),
        (json!({"initial": "0, 1"}), "0-1"),
    ] {
        let pid = exec_process(&c, |p| p["execCPUAffinity"] = affinity);
        assert_eq!(cpus(pid), expected);
    }
    // The kernel allows no affinity for a deadline process.
    let mut process = c.config()["process"].clone();
    process["scheduler"] = json!({
        "policy": "SCHED_DEADLINE", "runtime": 420_000, "deadline": 10_000_000,
    });
    let file = c.scratch().join("process");
    fs::write(&file, serde_json::to_vec(&process).unwrap()).unwrap();
    let output = c.runtime(&["exec", "--process", file.to_str().unwrap(), &c.id]);
    output.exits(255).says("all CPUs");
}

#[test]
fn init_and_exec_run_on_all_cpus_whatever_the_caller_is_pinned_to() {
    let mut c = container!();
    let own = kernel::status(std::process::id().cast_signed(), "Cpus_allowed_list");
    if own != "0-1" {
        skipped("not exactly the CPUs 0 and 1");
        return;
    }
    // This pins only this thread and the processes that it starts. Other tests are not affected.
    let this = nix::unistd::Pid::from_raw(0);
    let all = nix::sched::sched_getaffinity(this).unwrap();
    let mut first = nix::sched::CpuSet::new();
    first.set(0).unwrap();
    nix::sched::sched_setaffinity(this, &first).unwrap();
    c.run_detached().ok();
    let exec = c.exec_output("grep Cpus_allowed_list /proc/self/status");
    // The kernel allows a deadline only for a process that may run on all CPUs.
    let deadline = exec_process(&c, |p| {
        p["scheduler"] = json!({
            "policy": "SCHED_DEADLINE", "runtime": 420_000, "deadline": 10_000_000,
        });
    });
    nix::sched::sched_setaffinity(this, &all).unwrap();
    assert_eq!(kernel::status(c.pid(), "Cpus_allowed_list"), "0-1");
    assert_eq!(exec, "Cpus_allowed_list:\t0-1\n");
    assert_eq!(scheduler(deadline).2, 6);
}

#[test]
fn cpus_that_the_host_lacks_fail_an_exec_by_name() {
    let mut c = container!();
    c.edit(|c| c["process"]["execCPUAffinity"] = json!({"final": "8191"}));
    c.run_detached().ok();
    let output = c.exec(&["true"]);
    output.exits(255).one_line();
    output.says("(config.json: process.execCPUAffinity.final): sched_setaffinity: EINVAL");
}

#[test]
fn init_and_exec_get_the_configured_memory_policy() {
    let mut c = container!();
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        skipped("a kernel without NUMA");
        return;
    }
    for (policy, shown) in [
        (json!({"mode": "MPOL_DEFAULT"}), "default"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (
            json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
            "prefer=static:0",
        ),
        (
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}),
            "interleave=relative:0",
        ),
    ] {
        c.edit(|c| c["linux"]["memoryPolicy"] = policy);
        c.run_detached().ok();
        for pid in [c.pid(), exec_process(&c, |_| {})] {
            let maps = fs::read_to_string(format!("/proc/{pid}/numa_maps")).unwrap();
            let stack = maps.lines().find(|line| line.contains(" stack ")).unwrap();
            assert_eq!(stack.split(' ').nth(1), Some(shown), "{stack}");
        }
        c.delete(&["--force"]).ok();
        c.wait();
    }
}

#[test]
fn memory_nodes_that_the_host_lacks_fail_a_create_by_name() {
    let mut c = container!();
    c.edit(|c| c["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "1000"}));
    let output = c.run();
    output.exits(1).one_line();
    output.says("(config.json: linux.memoryPolicy): set_mempolicy: EINVAL");
    c.assert_nothing_left();
}
