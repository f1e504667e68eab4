//! Compares the tables with the headers of this machine.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use super::*;

fn of(arch: &Arch, name: &str) -> Option<u32> {
    arch.call_number(SystemCall::by_name(name)?)
}

/// Reads the calls that a header defines.
fn header(text: &str) -> Vec<(String, u32)> {
    let number = |text: &str| -> Option<u32> {
        let text = text.trim_matches(['(', ')']);
        match text.strip_prefix("__X32_SYSCALL_BIT + ") {
            Some(number) => Some(X32_BIT + number.parse::<u32>().ok()?),
            None => text.parse().ok(),
        }
    };
    text.lines()
        .filter_map(|line| line.strip_prefix("#define __NR_")?.split_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), number(value.trim())?)))
        .collect()
}

#[test]
fn the_tables_have_every_call_of_this_machines_headers() {
    for (arch, file) in [
        (&X86_64, "unistd_64.h"),
        (&X86, "unistd_32.h"),
        (&X32, "unistd_x32.h"),
    ] {
        let path = format!("/usr/include/x86_64-linux-gnu/asm/{file}");
        let Ok(text) = std::fs::read_to_string(&path) else {
            return crate::skipped::because(&format!("no {path}"));
        };
        let calls = header(&text);
        assert!(calls.len() > 300, "{path}");
        for (name, number) in calls {
            // Skip newer calls, because the headers of a machine may be newer than the table.
            if number & !X32_BIT <= 471 || arch == &X32 {
                assert_eq!(of(arch, &name), Some(number), "{name} in {path}");
            }
        }
    }
}

#[test]
fn the_tables_agree_with_the_numbers_that_new_architectures_share() {
    let path = "/usr/include/asm-generic/unistd.h";
    let Ok(text) = std::fs::read_to_string(path) else {
        writeln!(
            std::io::stderr(),
            "SKIPPED the_tables_agree_with_the_numbers_that_new_architectures_share: no {path}"
        )
        .unwrap();
        return;
    };
    // The header names calls that depend on the word size by the macro __NR3264_.
    let calls = header(&text.replace("__NR3264_", "__NR_"));
    for arch in [&AARCH64, &RISCV64, &LOONGARCH64] {
        let mut compared = 0;
        for (name, number) in &calls {
            // An architecture may lack some calls, such as those for 32 bits.
            if let Some(known) = of(arch, name) {
                assert_eq!(known, *number, "{name} for {:?}", arch.named);
                compared += 1;
            }
        }
        assert!(compared > 280, "{compared} for {:?}", arch.named);
    }
}

#[test]
fn every_name_is_found_by_its_hash() {
    for name in names() {
        assert_eq!(SystemCall::by_name(name).map(SystemCall::name), Some(name));
    }
    let members = names().filter_map(|name| SystemCall::by_name(name)?.multiplexer());
    assert_eq!(members.count(), 32);
    let accept4 = SystemCall::by_name("accept4").and_then(SystemCall::multiplexer);
    assert_eq!(
        accept4.map(|(group, member)| (group.name(), member)),
        Some(("socketcall", 18))
    );
}

#[test]
fn the_table_is_sorted_by_name() {
    assert!(CALLS.is_sorted_by(|(a, _), (b, _)| a < b));
}

#[test]
fn calls_have_the_numbers_of_their_architecture() {
    assert_eq!(of(&X86_64, "execve"), Some(59));
    assert_eq!(of(&X86, "execve"), Some(11));
    assert_eq!(of(&X32, "execve"), Some(X32_BIT + 520));
    assert_eq!(of(&AARCH64, "execve"), Some(221));
    assert_eq!(of(&ARM, "set_tls"), Some(0xf0005));
    assert_eq!(of(&X86_64, "set_tls"), None);
    assert_eq!(of(&X86_64, "socketcall"), None);
    assert_eq!(
        SystemCall::by_name("socketcall").map(SystemCall::name),
        Some("socketcall")
    );
    assert_eq!(SystemCall::by_name("no_such_call"), None);
}
