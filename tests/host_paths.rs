//! A host path in config.json means the file it named on the host before any mount, whatever the
//! image holds. Each form of a path is tried with each way in which a container gets its root.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use serde_json::json;

use crate::harness::{Container, kernel};

/// A user that no machine has.
const USER: u32 = 61_235;

/// How a container gets its root.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Direct,
    NoPivot,
    NewUser,
    JoinedUser,
    /// The caller isn't root.
    Rootless,
    /// The container shares the caller's mount namespace.
    Shared,
    /// The container joins a mount namespace.
    Joined,
}

const SHAPES: [Shape; 7] = [
    Shape::Direct,
    Shape::NoPivot,
    Shape::NewUser,
    Shape::JoinedUser,
    Shape::Rootless,
    Shape::Shared,
    Shape::Joined,
];

/// A process in a new mount namespace that is a copy of ours. It is killed on drop.
struct Holder(std::process::Child);

impl Holder {
    fn new() -> Holder {
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "sleep", "1000"]);
        let holder = command.stdin(std::process::Stdio::null()).spawn().unwrap();
        let comm = format!("/proc/{}/comm", holder.id());
        crate::harness::eventually("the holder runs", || {
            fs::read_to_string(&comm).unwrap().trim() == "sleep"
        });
        Holder(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A container of one shape. Its mounts are added later.
struct Shaped {
    c: Container,
    /// Flags of its `run`.
    flags: &'static [&'static str],
    /// The owners of the namespaces that it joins.
    _held: (Option<Holder>, Option<Container>),
}

fn container(shape: Shape) -> Option<Shaped> {
    let mut c = Container::new()?;
    let (mut holder, mut sandbox) = (None, None);
    c.edit(|j| j["process"]["args"] = json!(["/bin/true"]));
    match shape {
        Shape::Direct | Shape::NoPivot => {}
        Shape::NewUser => drop(c.user_namespace()),
        Shape::JoinedUser => {
            let mut owner = Container::new()?;
            owner.user_namespace();
            owner.run_detached().ok();
            let path = format!("/proc/{}/ns/user", owner.pid());
            sandbox = Some(owner);
            c.edit(|j| {
                let namespaces = j["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.push(json!({"type": "user", "path": path}));
            });
        }
        Shape::Rootless => {
            c.user_namespace().without_mount("/sys").edit(|j| {
                let linux = j["linux"].as_object_mut().unwrap();
                linux.remove("cgroupsPath");
                linux.remove("resources");
                let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
                linux.insert("uidMappings".into(), map.clone());
                linux.insert("gidMappings".into(), map);
            });
        }
        Shape::Shared => drop(c.without_namespace("mount")),
        Shape::Joined => {
            let held = holder.insert(Holder::new());
            let path = format!("/proc/{}/ns/mnt", held.0.id());
            c.join_namespace("mount", &path);
        }
    }
    let flags: &[&str] = match shape {
        Shape::NoPivot => &["--no-pivot"],
        _ => &[],
    };
    Some(Shaped {
        c,
        flags,
        _held: (holder, sandbox),
    })
}

/// Adds a hook, and a mount with its mount point for each source.
fn prepare(c: &mut Container, hook: &str, sources: &[(String, bool)]) {
    if !hook.is_empty() {
        let path = if hook == "startContainer" {
            "/bin/true"
        } else {
            "/usr/bin/true"
        };
        c.edit(|j| j["hooks"][hook] = json!([{"path": path}]));
    }
    for (at, (source, recursive)) in sources.iter().enumerate() {
        let target = format!("/seen/{at}");
        if fs::metadata(c.dir().join(source)).unwrap().is_dir() {
            fs::create_dir_all(c.rootfs(&target)).unwrap();
        } else {
            fs::create_dir_all(c.rootfs("/seen")).unwrap();
            fs::write(c.rootfs(&target), "").unwrap();
        }
        let word = if *recursive { "rbind" } else { "bind" };
        c.mount(&target, "bind", source, &[word, "ro"]);
    }
}

/// The device and inode of each bound source, as the container sees them.
fn seen(c: &mut Container, flags: &[&str], count: usize) -> Vec<String> {
    let script = format!(
        "for i in $(seq 0 {}); do stat -c %d:%i /seen/$i; done",
        count - 1
    );
    c.script(&script);
    let output = c.make("run", flags);
    output.ok();
    output.stdout().lines().map(str::to_owned).collect()
}

fn on_the_host(c: &Container, sources: &[(String, bool)]) -> Vec<String> {
    let it = |(source, _): &(String, bool)| {
        let found = fs::metadata(c.dir().join(source)).unwrap();
        format!("{}:{}", found.dev(), found.ino())
    };
    sources.iter().map(it).collect()
}

/// Forms of a path on the host, many of which climb to `/`. True: bound with all mounts below.
fn forms(c: &Container, is_rootless: bool) -> Vec<(String, bool)> {
    let scratch = c.scratch();
    let up = "../".repeat(30);
    let goal = scratch.join("goal");
    fs::create_dir(&goal).unwrap();
    fs::write(goal.join("file"), "the host's\n").unwrap();
    // The image has another file at the same path.
    let decoy = c.rootfs(goal.to_str().unwrap());
    fs::create_dir_all(&decoy).unwrap();
    fs::write(decoy.join("file"), "the image's\n").unwrap();
    let below = goal.to_str().unwrap().trim_start_matches('/');
    let link = |name: &str, to: &str| {
        let at = scratch.join(name);
        symlink(to, &at).unwrap();
        at.to_str().unwrap().to_owned()
    };
    let mut forms: Vec<(String, bool)> = Vec::new();
    let mut both = |source: String| {
        forms.push((source.clone(), false));
        forms.push((source, true));
    };
    both(goal.to_str().unwrap().to_owned());
    both(link("climbs", &format!("{up}{below}")));
    both(link("climbs-to-file", &format!("{up}{below}/file")));
    both(link("absolute", goal.to_str().unwrap()));
    both(format!("{}/{up}{below}", scratch.display()));
    both(format!("{}/{up}{below}/file", scratch.display()));
    // Relative to the bundle.
    both(format!("{up}{below}"));
    both(format!("/proc/self/root/{below}"));
    let roots = ["/", "/..", "//", "/.", "/proc/self/root"].map(str::to_owned);
    let links = [link("root", "/"), link("climbs-to-root", &up)];
    for source in roots.into_iter().chain(links) {
        // A user can't bind `/` alone, since that would uncover files that other mounts hide.
        if !is_rootless {
            forms.push((source.clone(), false));
        }
        forms.push((source, true));
    }
    forms
}

#[test]
fn a_source_is_what_its_path_means_on_the_host_in_every_shape_and_with_every_hook() {
    let hooks = [
        "",
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
    ];
    let mut wrong = Vec::new();
    for shape in SHAPES {
        for hook in hooks {
            let Some(Shaped {
                mut c,
                flags,
                _held,
            }) = container(shape)
            else {
                return;
            };
            let sources = forms(&c, shape == Shape::Rootless);
            prepare(&mut c, hook, &sources);
            if shape == Shape::Rootless {
                c.give_to(USER);
            }
            let expected = on_the_host(&c, &sources);
            let seen = seen(&mut c, flags, sources.len());
            for ((source, seen), expected) in sources.iter().zip(&seen).zip(&expected) {
                if seen != expected {
                    wrong.push(format!(
                        "{shape:?} {hook}: {source:?} is {seen}, not {expected}"
                    ));
                }
            }
            assert_eq!(seen.len(), expected.len());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn targets(mounts: &[kernel::Mount], below: &str) -> Vec<String> {
    let under = |mount: &&kernel::Mount| Path::new(&mount.target).starts_with(below);
    let rest = |mount: &kernel::Mount| {
        let rest = mount.target.strip_prefix(below).unwrap_or_default();
        format!("/{}", rest.trim_start_matches('/'))
    };
    let mut targets: Vec<String> = mounts.iter().filter(under).map(rest).collect();
    targets.sort();
    targets
}

// Node agents use such a mount.
#[test]
fn the_hosts_root_bound_recursively_has_the_hosts_mounts_and_none_of_the_containers() {
    let mut c = container!();
    let mark = c.scratch().join("mark");
    fs::write(&mark, "the host's\n").unwrap();
    for hook in ["", "createContainer"] {
        c.edit(|j| {
            j["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|m| m["destination"] != "/host");
        });
        c.mount("/host", "bind", "/", &["rbind", "rslave", "ro"]);
        if !hook.is_empty() {
            c.edit(|j| j["hooks"][hook] = json!([{"path": "/usr/bin/true"}]));
        }
        let before = kernel::mounts(std::process::id() as i32);
        c.run_detached().ok();
        let inside = kernel::mounts(c.pid());
        let unbindable = |mount: &&kernel::Mount| mount.optional.iter().all(|o| o != "unbindable");
        let bindable: Vec<_> = before.iter().filter(unbindable).cloned().collect();
        assert_eq!(targets(&inside, "/host"), targets(&bindable, "/"));
        let path = format!("/host{}", mark.display());
        assert_eq!(c.exec_output(&format!("cat {path}")), "the host's\n");
        c.delete(&["--force"]).ok();
    }
}

#[test]
fn an_image_that_has_a_link_where_the_hosts_leads_gets_no_other_file() {
    let mut c = container!();
    let scratch = c.scratch();
    let (public, secret) = (scratch.join("public"), scratch.join("secret"));
    fs::write(&public, "public\n").unwrap();
    fs::write(&secret, "secret\n").unwrap();
    let link = scratch.join("link");
    let climb = format!(
        "{}{}",
        "../".repeat(30),
        public.to_str().unwrap().trim_start_matches('/')
    );
    symlink(climb, &link).unwrap();
    let in_image = c.rootfs(public.to_str().unwrap());
    fs::create_dir_all(in_image.parent().unwrap()).unwrap();
    symlink(&secret, &in_image).unwrap();
    c.mount("/x", "bind", link.to_str().unwrap(), &["bind", "ro"]);
    assert_eq!(c.output_of("cat /x"), "public\n");
}

#[test]
fn the_layers_of_an_overlay_are_the_hosts() {
    for shape in [Shape::Direct, Shape::NoPivot, Shape::Shared, Shape::Joined] {
        let Some(Shaped {
            mut c,
            flags,
            _held,
        }) = container(shape)
        else {
            return;
        };
        let scratch = c.scratch();
        let up = "../".repeat(scratch.components().count());
        // Two lower layers and no upper one, since not every file system can be an upper layer.
        let layers = ["a", "b"].map(|name| {
            let layer = scratch.join(name);
            fs::create_dir(&layer).unwrap();
            fs::write(layer.join(name), "the host's\n").unwrap();
            let decoy = c.rootfs(layer.to_str().unwrap());
            fs::create_dir_all(&decoy).unwrap();
            fs::write(decoy.join(name), "the image's\n").unwrap();
            let below = layer.to_str().unwrap().trim_start_matches('/');
            format!("{}/{up}{below}", scratch.display())
        });
        c.mount(
            "/seen",
            "overlay",
            "overlay",
            &[&format!("lowerdir={}", layers.join(":"))],
        );
        c.script("cat /seen/a /seen/b");
        let output = c.make("run", flags);
        output.ok();
        assert_eq!(output.stdout(), "the host's\nthe host's\n", "{shape:?}");
    }
}

#[test]
fn a_bind_that_would_uncover_what_mounts_hide_is_refused_with_advice() {
    let Some(Shaped { mut c, .. }) = container(Shape::Rootless) else {
        return;
    };
    fs::create_dir(c.rootfs("/seen")).unwrap();
    c.mount("/seen", "bind", "/", &["bind", "ro"]);
    c.give_to(USER);
    let output = c.create();
    output
        .exits(1)
        .says("mounts[5].source")
        .says("rbind")
        .one_line();
}
