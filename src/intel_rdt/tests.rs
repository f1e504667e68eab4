//! Tests with a directory instead of the resctrl mount.
#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use serde_json::{Value, json};

/// A directory in place of the resctrl mount. Its groups lack the files that the kernel would make.
struct Mount(PathBuf);

impl Mount {
    fn new(name: &str) -> Mount {
        let dir = std::env::temp_dir().join(format!("orlop-rdt-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("mon_groups")).unwrap();
        Mount(dir)
    }

    fn plan(&self, rdt: Value) -> Result<Option<RdtPlan>, Vec<String>> {
        let linux: Linux = serde_json::from_value(json!({ "intelRdt": rdt })).unwrap();
        plan_rdt_below(&linux, "box", &self.0)
            .map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap()
    }

    /// Makes a group as an administrator would.
    fn group(&self, name: &str, schemata: &str) {
        fs::create_dir_all(self.0.join(name).join("mon_groups")).unwrap();
        fs::write(self.0.join(name).join("schemata"), schemata).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_group_of_its_own_has_the_schemata_of_all_fields() {
    let mount = Mount::new("own");
    let rdt = json!({"l3CacheSchema": "L3:0=f\nMB:0=10", "memBwSchema": "MB:0=70", "schemata": ["L2:0=3"]});
    let planned = mount.plan(rdt).unwrap().unwrap();
    planned.join_group(42).unwrap();
    assert_eq!(mount.read("box/schemata"), "L3:0=f\nMB:0=70\nL2:0=3\n");
    assert_eq!(mount.read("box/tasks"), "42");
    for file in ["box/schemata", "box/tasks"] {
        fs::remove_file(mount.0.join(file)).unwrap();
    }
    planned.groups.remove_dirs().unwrap();
    assert!(!mount.0.join("box").exists());
    planned.groups.remove_dirs().unwrap();
}

#[test]
fn a_named_group_is_used_as_it_is_or_refused() {
    let mount = Mount::new("named");
    mount.group("gold", "    L3:0=00f;1=0ff\n    MB:0= 70\n");
    let join = |rdt: Value| {
        mount
            .plan(rdt)
            .unwrap()
            .unwrap()
            .join_group(7)
            .map_err(|e| e.to_string())
    };
    assert_eq!(join(json!({"closID": "gold"})), Ok(()));
    assert_eq!(mount.read("gold/tasks"), "7");
    assert_eq!(
        join(json!({"closID": "gold", "l3CacheSchema": "L3:1=ff", "memBwSchema": "MB:0=70"})),
        Ok(())
    );
    let shown = mount.0.join("gold").display().to_string();
    assert_eq!(
        join(json!({"closID": "gold", "schemata": ["L3:0=ff"]})),
        Err(format!(
            "{shown} (config.json: linux.intelRdt): the schemata of the group differ from \"L3:0=ff\""
        ))
    );
    let missing = join(json!({"closID": "lead"})).unwrap_err();
    assert!(missing.contains("the group does not exist"), "{missing}");
    assert_eq!(
        join(json!({"closID": "lead", "schemata": ["L3:0=1"]})),
        Ok(())
    );
    assert_eq!(mount.read("lead/schemata"), "L3:0=1\n");
    let planned = mount.plan(json!({"closID": "lead"})).unwrap().unwrap();
    planned.groups.remove_dirs().unwrap();
    assert!(mount.0.join("lead").exists());
}

#[test]
fn monitoring_has_a_group_below_the_one_that_limits() {
    let mount = Mount::new("monitored");
    mount.group("gold", "");
    let planned = mount
        .plan(json!({"closID": "gold", "enableMonitoring": true}))
        .unwrap()
        .unwrap();
    planned.join_group(9).unwrap();
    assert_eq!(mount.read("gold/mon_groups/box/tasks"), "9");
    assert_eq!(mount.read("gold/tasks"), "9");
    for rdt in [
        json!({"enableMonitoring": true}),
        json!({"enableCmt": true}),
        json!({"closID": "/", "enableMbm": true}),
    ] {
        let planned = mount.plan(rdt).unwrap().unwrap();
        assert_eq!(planned.groups.group, mount.0);
        assert_eq!(planned.groups.monitor, Some(mount.0.join("mon_groups/box")));
        assert!(!planned.groups.removed);
    }
}

#[test]
fn an_empty_object_asks_for_nothing_and_mistakes_are_told() {
    let mount = Mount::new("mistakes");
    for rdt in [
        json!({}),
        json!({"closID": "", "enableMonitoring": false, "schemata": []}),
    ] {
        assert_eq!(mount.plan(rdt), Ok(None));
    }
    for name in ["..", "a/b", "info"] {
        let refused = mount.plan(json!({ "closID": name })).unwrap_err();
        assert!(
            refused
                .concat()
                .starts_with("config.json: linux.intelRdt.closID: "),
            "{refused:?}"
        );
    }
    assert_eq!(
        mount.plan(json!({"l3CacheSchema": "f"})),
        Err(vec![
            "config.json: linux.intelRdt.schemata: \"f\" is not RESOURCE:DOMAIN=VALUE;...".into()
        ])
    );
}

#[test]
fn an_update_writes_its_lines_and_can_restore_the_former_ones() {
    let mount = Mount::new("update");
    let planned = mount
        .plan(json!({"schemata": ["L3:0=f"]}))
        .unwrap()
        .unwrap();
    planned.join_group(3).unwrap();
    fs::write(
        mount.0.join("box/schemata"),
        "    L3:0=00f;1=fff\n    MB:0= 100\n    L2:0=3\n",
    )
    .unwrap();
    let update = |l3, bandwidth| SchemataUpdate::plan_update(l3, bandwidth).unwrap().unwrap();
    let back = update(Some("L3:1=ff\nMB:0=10\n"), Some("MB:0=20"))
        .write_schemata(&planned.groups)
        .unwrap();
    assert_eq!(mount.read("box/schemata"), "L3:1=ff\nMB:0=20\n");
    back.restore_schemata(&planned.groups);
    assert_eq!(mount.read("box/schemata"), "L3:0=00f;1=fff\nMB:0= 100\n");
}

#[test]
fn an_update_without_lines_is_none_and_mistakes_are_told_by_flag() {
    assert_eq!(SchemataUpdate::plan_update(None, None), Ok(None));
    assert_eq!(SchemataUpdate::plan_update(Some(" \n"), Some("")), Ok(None));
    for (l3, bandwidth, told) in [
        (
            Some("f"),
            None,
            "--l3-cache-schema: \"f\" is not RESOURCE:DOMAIN=VALUE;...",
        ),
        (
            None,
            Some("MB"),
            "--mem-bw-schema: \"MB\" is not RESOURCE:DOMAIN=VALUE;...",
        ),
    ] {
        assert_eq!(
            SchemataUpdate::plan_update(l3, bandwidth),
            Err(told.to_owned())
        );
    }
}

#[test]
fn an_update_tells_what_the_kernel_says_and_spares_the_root() {
    let mount = Mount::new("refused");
    let planned = mount
        .plan(json!({"schemata": ["L3:0=f"]}))
        .unwrap()
        .unwrap();
    fs::create_dir(mount.0.join("info")).unwrap();
    fs::write(
        mount.0.join("info/last_cmd_status"),
        "Mask out of range\nand more\n",
    )
    .unwrap();
    let update = SchemataUpdate::plan_update(Some("L3:0=0"), None)
        .unwrap()
        .unwrap();
    let refused = |groups: &ResctrlGroups| update.write_schemata(groups).unwrap_err().to_string();
    let missing = refused(&planned.groups);
    assert!(
        missing.ends_with("schemata: read: ENOENT (no such file or directory)"),
        "{missing}"
    );
    // Replace schemata by a file that everybody can read and nobody can write.
    mount.group("box", "");
    let file = mount.0.join("box/schemata");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/proc/version", &file).unwrap();
    let told = refused(&planned.groups);
    let shown = file.display();
    assert!(
        told.starts_with(&format!("write \"L3:0=0\" to {shown}: write: E")),
        "{told}"
    );
    assert!(told.ends_with("): Mask out of range; and more"), "{told}");
    let monitored = mount.plan(json!({"enableMonitoring": true}));
    let root = refused(&monitored.unwrap().unwrap().groups);
    assert!(
        root.ends_with("this one is shared by all processes"),
        "{root}"
    );
}
