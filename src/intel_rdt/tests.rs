//! Tests on a directory that stands for the mount of resctrl.
#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use serde_json::{Value, json};

/// A directory that stands for the mount; its groups lack the files that the kernel puts there.
struct Mount(PathBuf);

impl Mount {
    fn new(name: &str) -> Mount {
        let dir = std::env::temp_dir().join(format!("orlop-rdt-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("mon_groups")).unwrap();
        Mount(dir)
    }

    fn plan(&self, rdt: Value) -> Result<Option<Rdt>, Vec<String>> {
        let linux: Linux = serde_json::from_value(json!({ "intelRdt": rdt })).unwrap();
        plan_below(&linux, "box", &self.0)
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
    planned.join(42).unwrap();
    assert_eq!(mount.read("box/schemata"), "L3:0=f\nMB:0=70\nL2:0=3\n");
    assert_eq!(mount.read("box/tasks"), "42");
    for file in ["box/schemata", "box/tasks"] {
        fs::remove_file(mount.0.join(file)).unwrap();
    }
    planned.groups.remove().unwrap();
    assert!(!mount.0.join("box").exists());
    planned.groups.remove().unwrap();
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
            .join(7)
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
            "{shown} (config.json: linux.intelRdt): the group has other schemata, and not \"L3:0=ff\""
        ))
    );
    let missing = join(json!({"closID": "lead"})).unwrap_err();
    assert!(missing.contains("there is no such group"), "{missing}");
    assert_eq!(
        join(json!({"closID": "lead", "schemata": ["L3:0=1"]})),
        Ok(())
    );
    assert_eq!(mount.read("lead/schemata"), "L3:0=1\n");
    let planned = mount.plan(json!({"closID": "lead"})).unwrap().unwrap();
    planned.groups.remove().unwrap();
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
    planned.join(9).unwrap();
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
