//! Tests of reading config.json as a whole.
#![allow(clippy::unwrap_used)]
use super::*;
use serde_json::json;

/// Configurations as engines write them for a Linux container, with all supported features.
const ENGINES: &[(&str, &str)] = &[
    (
        "the template of a runtime",
        include_str!("tests/template.json"),
    ),
    ("a pod's container", include_str!("tests/kubernetes.json")),
    ("a rootful pod engine", include_str!("tests/podman.json")),
];

fn config(text: &str) -> Result<LoadedConfig, String> {
    let loaded = parse("config.json", text).map_err(|error| error.to_string())?;
    Error::error_if_any(loaded.violations.clone()).map_err(|error| error.to_string())?;
    Ok(loaded)
}

fn refused(text: &str) -> String {
    config(text).unwrap_err()
}

/// Returns a valid configuration with one field replaced.
fn with(place: &str, value: Value) -> String {
    let mut tree: Value = serde_json::from_str(ENGINES.first().unwrap().1).unwrap();
    *tree.pointer_mut(place).unwrap() = value;
    tree.to_string()
}

#[test]
fn what_engines_write_is_taken_without_a_warning() {
    for (engine, text) in ENGINES {
        let loaded = config(text).map_err(|error| format!("{engine}: {error}"));
        assert_eq!(loaded.unwrap().warnings, [], "{engine}");
    }
}

#[test]
fn unknown_properties_are_ignored_wherever_they_stand() {
    let mut tree: Value = serde_json::from_str(ENGINES.first().unwrap().1).unwrap();
    for place in [
        "",
        "/root",
        "/process",
        "/process/user",
        "/mounts/0",
        "/linux",
        "/linux/namespaces/0",
    ] {
        let object = tree.pointer_mut(place).unwrap().as_object_mut().unwrap();
        object.insert("com.example.unknown".into(), json!([{"x": 1}]));
    }
    config(&tree.to_string()).unwrap();
}

#[test]
fn a_value_of_the_wrong_type_is_named_by_its_place() {
    for (place, value, expected) in [
        (
            "/process/user/uid",
            json!("x"),
            r#"process.user.uid: invalid type: string "x", expected u32"#,
        ),
        (
            "/process/user/uid",
            json!(-1),
            "process.user.uid: invalid value: integer `-1`, expected u32",
        ),
        (
            "/process/user/uid",
            json!(1.5),
            "process.user.uid: invalid type: floating point `1.5`, expected u32",
        ),
        (
            "/process/user/uid",
            json!(4_294_967_296_u64),
            "process.user.uid: invalid value: integer `4294967296`, expected u32",
        ),
        (
            "/process/args",
            json!(["a", null]),
            "process.args[1]: invalid type: null, expected a string",
        ),
        (
            "/process/args",
            json!("a"),
            r#"process.args: invalid type: string "a", expected a sequence"#,
        ),
        (
            "/process",
            json!({"args": ["a"]}),
            "process.cwd: is missing",
        ),
        (
            "/process",
            json!({"args": ["a"], "cwd": "/", "ioPriority": {"priority": 3}}),
            "process.ioPriority.class: is missing",
        ),
        (
            "/linux",
            json!({"memoryPolicy": {}}),
            "linux.memoryPolicy.mode: is missing",
        ),
        ("/root", json!("rootfs"), "root: is not an object"),
        (
            "/mounts/0/options",
            json!([1]),
            "mounts[0].options[0]: invalid type: integer `1`, expected a string",
        ),
        (
            "/mounts/0",
            json!({"type": "proc"}),
            "mounts[0].destination: is missing",
        ),
        (
            "/process/rlimits/0/type",
            json!("RLIMIT_X"),
            "process.rlimits[0].type: unknown value `RLIMIT_X`, expected one of `RLIMIT_CPU`, `RLIMIT_FSIZE`",
        ),
        (
            "/linux/namespaces/1/type",
            json!("foo"),
            "linux.namespaces[1].type: unknown value `foo`, expected one of `mount`, `cgroup`, `uts`, `ipc`",
        ),
        (
            "/linux/namespaces/1",
            json!({}),
            "linux.namespaces[1].type: is missing",
        ),
        (
            "/process/capabilities/bounding",
            json!([1]),
            "process.capabilities.bounding[0]: invalid type: integer `1`, expected a string",
        ),
    ] {
        let found = refused(&with(place, value));
        assert!(
            found.starts_with(&format!("config.json: {expected}")),
            "{found}"
        );
    }
}

#[test]
fn what_is_no_configuration_is_refused_in_one_line() {
    for (text, expected) in [
        ("null", "not an object"),
        ("[]", "not an object"),
        ("{}", "ociVersion: is missing"),
        (
            "{\"ociVersion\": \"2.0.0\"}",
            "ociVersion: \"2.0.0\" is not supported (expected 1.x.y)",
        ),
        (
            "{\"ociVersion\": \"1.2.0\"",
            "EOF while parsing an object at line 1 column 22",
        ),
        ("{}}", "trailing characters at line 1 column 3"),
        (
            "{\"a\": 1,\n\"a\": 2}",
            "duplicate key \"a\" at line 2 column 3",
        ),
    ] {
        assert_eq!(refused(text), format!("config.json: {expected}"));
    }
}

#[test]
fn all_violations_come_in_one_line() {
    assert_eq!(
        refused(r#"{"ociVersion": "1.0.0", "process": {"args": [], "cwd": "/"}, "linux": {}}"#),
        "config.json: root: is missing; \
         config.json: process.args: is empty"
    );
    let found = refused(&with("/process/env", json!(vec!["a\nb"; 1000])));
    assert_eq!(found.lines().count(), 1);
    assert!(found.ends_with("; and 980 more"), "{found}");
    assert!(found.len() < 4096);
}

#[test]
fn a_message_stays_one_short_line_whatever_the_value() {
    for text in [
        with("/process/user/uid", json!("x\n".repeat(100_000))),
        with(
            "/process/rlimits/0/type",
            json!("x\n\u{1b}é".repeat(100_000)),
        ),
        format!("{{\"ociVersion\": \"1.0.0\\n{}\"}}", "1".repeat(100_000)),
        format!("{{\"a\\n{0}\": 1, \"a\\n{0}\": 2}}", "1".repeat(100_000)),
        with("/annotations", json!({ "a\nb": 5 })),
    ] {
        let found = refused(&text);
        assert_eq!(found.lines().count(), 1, "{found}");
        assert!(found.len() < 1000, "{}", found.len());
    }
}

#[test]
fn the_process_of_an_exec_has_the_places_of_config_json() {
    let process = |value: Value| parse_process("p.json", &value.to_string());
    let (read, warnings) = process(json!({
        "args": ["id"], "cwd": "/", "apparmorProfile": "", "scheduler": null,
        "capabilities": {"effective": ["CAP_NEW", "CAP_KILL"]},
    }))
    .unwrap();
    assert_eq!(read.user().uid(), 0);
    assert_eq!(
        read.capabilities()
            .as_ref()
            .unwrap()
            .effective()
            .as_ref()
            .unwrap()
            .len(),
        1
    );
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [r#"p.json: process.capabilities: unknown capability "CAP_NEW", ignored"#]
    );
    for (value, expected) in [
        (json!([]), "p.json: not an object"),
        (json!({"args": ["a"]}), "p.json: process.cwd: is missing"),
        (
            json!({"args": ["a"], "cwd": "/", "user": {"gid": "a"}}),
            r#"p.json: process.user.gid: invalid type: string "a", expected u32"#,
        ),
        (
            json!({"args": ["a"], "cwd": "a", "umask": 1}),
            "p.json: process.cwd: \"a\" is not an absolute path",
        ),
    ] {
        assert_eq!(process(value).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_bundle_is_read_from_its_directory() {
    let bundle = std::env::temp_dir().join(format!("orlop-spec-load-{}", std::process::id()));
    std::fs::create_dir(&bundle).unwrap();
    let missing = load_config(&bundle.join(FILE)).unwrap_err().to_string();
    std::fs::write(bundle.join("config.json"), ENGINES.first().unwrap().1).unwrap();
    let loaded = load_config(&bundle.join(FILE));
    std::fs::remove_dir_all(&bundle).unwrap();
    let path = bundle.display();
    assert_eq!(
        missing,
        format!("config.json: open {path}/config.json: ENOENT (no such file or directory)")
    );
    assert_eq!(
        loaded.unwrap().spec.root().as_ref().unwrap().path(),
        Path::new("rootfs")
    );
}
