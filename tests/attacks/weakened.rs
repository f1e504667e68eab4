//! Proof that the attacks can succeed: each is run on a runtime that lacks the defence against it,
//! and its test must fail. The runtime is built with the feature `weakened`, as `scripts/attacks`
//! does.

use std::process::Command;

/// A test, the defences that the runtime lacks, and the test's message if the attack succeeds.
const ATTACKS: &[(&str, &str, &str)] = &[
    (
        "program::cve_2019_5736_racers_cannot_write_the_program_of_an_exec",
        "seal",
        "was changed",
    ),
    (
        "program::cve_2019_5736_racers_cannot_write_the_program_of_a_run",
        "seal",
        "was changed",
    ),
    (
        "seal::cve_2019_5736_what_is_kept_of_the_program_cannot_be_written_later",
        "seal",
        "Ok(11)",
    ),
    (
        "targets::cve_2021_30465_a_racing_link_in_a_volume_brings_no_mount_outside",
        "in-root",
        "race",
    ),
    (
        "targets::cve_2024_45310_a_racing_link_in_a_volume_has_no_file_made_outside",
        "in-root",
        "race",
    ),
    (
        "devices::a_device_node_that_is_exchanged_for_a_link_leaves_a_file_of_the_host_alone",
        "nodes",
        "race",
    ),
    (
        "devices::cve_2025_31133_a_dev_null_of_the_image_never_serves_as_a_mask",
        "null-mask",
        "case",
    ),
    (
        "procfs::cve_2019_16884_a_mount_in_a_procfs_is_refused_whichever_way_it_was_reached",
        "procfs-target",
        "exit code 0",
    ),
    (
        "procfs::cve_2019_19921_a_symlink_in_place_of_proc_or_sys_is_refused",
        "ordinary-directory",
        "exit code 0",
    ),
    (
        "process::cve_2022_29162_no_capability_is_inheritable_unless_the_config_says_so",
        "inheritable",
        "right: [0, 0]",
    ),
    (
        "process::cve_2024_21626_a_working_directory_by_a_descriptor_of_the_runtime_is_refused",
        "cwd,descriptors",
        "/proc/self/fd/",
    ),
    (
        "process::cve_2016_9962_init_that_waits_for_start_shows_no_directory_of_the_host",
        "descriptors",
        "->",
    ),
    (
        "devices::cve_2025_31133_a_racing_dev_null_never_serves_as_a_mask",
        "null-mask",
        "case of a race",
    ),
    (
        "devices::cve_2026_88265_a_dev_null_of_the_image_is_never_standard_input_or_output",
        "null-stdio",
        "assertion",
    ),
    (
        "devices::cve_2026_88264_a_console_is_not_made_through_a_link",
        "console",
        "a link to",
    ),
    (
        "process::cve_2022_29162_a_file_with_inheritable_capabilities_gives_none",
        "inheritable",
        "gained",
    ),
    (
        "targets::ghsa_3q8j_pf29_vwv8_a_racing_path_is_never_left_writable_or_visible",
        "resolve-once",
        "left:",
    ),
    (
        "procfs::cve_2025_52881_a_sysctl_is_written_in_a_procfs_that_nobody_else_has",
        "procfs",
        "led astray",
    ),
];

/// Runs a test on a runtime that lacks defences. If the test doesn't fail as it should, returns its
/// output.
fn tried(name: &str, defences: &str, says: &str) -> Result<(), String> {
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", name])
        .env("ORLOP_TEST_WEAKENED", defences);
    // Winning a race may take longer.
    test.env("ORLOP_TEST_WATCH", "20")
        .env("RUST_BACKTRACE", "0");
    let output = test.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("1 failed") && text.contains(says) {
        return Ok(());
    }
    Err(format!("{name} without {defences}: no {says:?} in {text}"))
}

#[test]
fn each_attack_succeeds_where_its_defence_is_missing() {
    let mut wrong = Vec::new();
    for (name, defences, says) in ATTACKS {
        let name = format!("attacks::{name}");
        // On a busy machine not every race is won.
        let tried = || tried(&name, defences, says);
        match tried().or_else(|_| tried()).or_else(|_| tried()) {
            Ok(()) => super::report("weakened", 1),
            Err(problem) => wrong.push(problem),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
