//! Files that appear, change, break and go.
#![allow(clippy::unwrap_used, reason = "a test may end at once")]

use std::fs;

use super::*;

fn service(name: &str, port: u16) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - port: {port}\n")
}

/// `name:port`, in order.
fn services(loaded: &Loaded) -> Vec<String> {
    let text = |object: &Object| match object {
        Object::Service(service) => format!("{}:{}", service.meta.name, service.ports[0].port),
        other => panic!("unexpected {other:?}"),
    };
    loaded.objects.iter().map(text).collect()
}

fn messages(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().map(|diagnostic| format!("{}: {}", diagnostic.severity, diagnostic.message)).collect()
}

struct Folder {
    folder: tempfile::TempDir,
    files: Files,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(vec![folder.path().to_owned()]);
        Self { folder, files }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.folder.path().join(name)).unwrap();
    }
}

#[test]
fn a_folders_manifests_are_read_and_nothing_else() {
    let mut folder = Folder::new();
    folder.write("b.yml", service("b", 2));
    folder.write("a.yaml", service("a", 1));
    folder.write("c.json", r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"}, "spec": {"ports": [{"port": 3}]}}"#);
    folder.write("README.md", "# not a manifest");
    folder.write(".a.yaml.swp", "not: [a manifest");
    fs::create_dir(folder.folder.path().join("deeper.yaml")).unwrap();
    let loaded = folder.files.reload();
    assert_eq!(services(&loaded), ["a:1", "b:2", "c:3"]);
    assert_eq!(messages(&loaded), [""; 0]);
}

#[test]
fn a_changed_file_is_read_again_and_a_deleted_one_takes_its_objects_along() {
    let mut folder = Folder::new();
    folder.write("a.yaml", service("a", 1) + &service("b", 2));
    folder.write("c.yaml", service("c", 3));
    assert_eq!(services(&folder.files.reload()), ["a:1", "b:2", "c:3"]);
    folder.write("a.yaml", service("a", 9));
    folder.remove("c.yaml");
    assert_eq!(services(&folder.files.reload()), ["a:9"]);
}

#[test]
fn a_file_with_an_old_stamp_is_not_read_twice() {
    let mut folder = Folder::new();
    folder.write("a.yaml", service("a", 1));
    let path = folder.folder.path().join("a.yaml");
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    folder.files.reload();
    folder.write("a.yaml", service("a", 2));
    File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(services(&folder.files.reload()), ["a:1"], "length, time and inode are the same");
    folder.write("a.yaml", service("a", 2));
    assert_eq!(services(&folder.files.reload()), ["a:2"]);
}

#[test]
fn a_document_with_errors_keeps_what_it_was() {
    let mut folder = Folder::new();
    folder.write("a.yaml", service("a", 1) + &service("b", 2) + &service("c", 3));
    folder.files.reload();
    folder.write("a.yaml", service("a", 8) + &service("b", 0) + &service("d", 4));
    let loaded = folder.files.reload();
    assert_eq!(services(&loaded), ["a:8", "d:4", "b:2"], "c is gone: every document can be told");
    let expected = ["error: 0 is not a port: 1 to 65535", "warning: 1 object as read before stays in use until the errors here are mended"];
    assert_eq!(messages(&loaded), expected);
    folder.write("a.yaml", service("b", 7));
    assert_eq!(services(&folder.files.reload()), ["b:7"]);
}

#[test]
fn a_half_written_file_takes_nothing_away_wherever_it_ends() {
    let whole = service("a", 1) + &service("b", 2) + &service("c", 3);
    let changed = whole.replace("port: ", "port: 8");
    let mut folder = Folder::new();
    for end in 0..changed.len() {
        folder.write("a.yaml", &whole);
        assert_eq!(folder.files.reload().objects.len(), 3);
        folder.write("a.yaml", &changed[..end]);
        let mut names: Vec<_> = folder.files.reload().objects.iter().map(|object| object.meta().name.clone()).collect();
        names.sort();
        // Where a document ends and another has not begun, nobody can tell that it will.
        let boundary = changed[..end].trim_end().ends_with(|c: char| c.is_ascii_digit() || c == '-') && end > 10;
        assert!(names == ["a", "b", "c"] || boundary, "at {end}: {names:?}\n{}", &changed[..end]);
        assert!(names.first().is_some_and(|name| name == "a"), "at {end}: {names:?}");
    }
}

#[test]
fn an_unreadable_file_keeps_its_objects() {
    let mut folder = Folder::new();
    folder.write("a.yaml", service("a", 1));
    folder.files.reload();
    for (broken, message) in [
        (&b"\xff\xfe"[..], "error: is not UTF-8 text"),
        (b"", "warning: holds nothing: what it held before stays in use"),
        (b"# only a comment\n---\n", "warning: holds nothing: what it held before stays in use"),
        (b"a: [", "error: "),
    ] {
        folder.write("a.yaml", broken);
        let loaded = folder.files.reload();
        assert_eq!(services(&loaded), ["a:1"], "{broken:?}");
        assert!(messages(&loaded)[0].starts_with(message), "{:?}", messages(&loaded));
    }
    folder.remove("a.yaml");
    assert_eq!(folder.files.reload().objects.len(), 0);
}

#[test]
fn not_utf8_says_where() {
    let mut folder = Folder::new();
    folder.write("a.yaml", b"a: 1\nb: \xff\n");
    assert_eq!(folder.files.reload().diagnostics[0].line, Some(2));
}

#[test]
fn the_first_of_two_definitions_counts() {
    let mut folder = Folder::new();
    folder.write("a.yaml", service("a", 1));
    folder.write("b.yaml", service("a", 2) + &service("b", 2));
    let loaded = folder.files.reload();
    assert_eq!(services(&loaded), ["a:1", "b:2"]);
    let first = folder.folder.path().join("a.yaml");
    assert_eq!(messages(&loaded), [format!("error: is defined already in {}:2", first.display())]);
    assert!(loaded.diagnostics[0].file.as_deref().unwrap().ends_with("b.yaml"));
}

#[test]
fn an_object_that_moved_to_another_file_is_not_held_back_by_its_old_one() {
    let mut folder = Folder::new();
    folder.write("a.yaml", service("a", 1));
    folder.files.reload();
    folder.write("a.yaml", "half: [written");
    folder.write("b.yaml", service("a", 5));
    assert_eq!(services(&folder.files.reload()), ["a:5"]);
}

#[test]
fn paths_that_do_not_exist_are_errors_and_the_same_file_counts_once() {
    let folder = Folder::new();
    folder.write("a.yaml", service("a", 1));
    let named = |name: &str| folder.folder.path().join(name);
    let loaded = load(&[named("a.yaml"), folder.folder.path().to_owned(), named("missing")]);
    assert_eq!(services(&loaded), ["a:1"]);
    assert_eq!(messages(&loaded), ["error: does not exist"]);
}

#[test]
fn a_mounted_config_map_changes_by_its_link() {
    let mut folder = Folder::new();
    let root = folder.folder.path().to_owned();
    let publish = |version: &str, port: u16| {
        fs::create_dir(root.join(version)).unwrap();
        fs::write(root.join(version).join("a.yaml"), service("a", port)).unwrap();
        std::os::unix::fs::symlink(version, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    publish("..2026_1", 1);
    std::os::unix::fs::symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    assert_eq!(services(&folder.files.reload()), ["a:1"]);
    publish("..2026_2", 2);
    assert_eq!(services(&folder.files.reload()), ["a:2"]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_change_is_noticed_and_reading_is_none() {
    let mut folder = Folder::new();
    let (changed, mut changes) = tokio::sync::mpsc::channel(1);
    let watch = watch(&[folder.folder.path().to_owned()], move || changed.try_send(()).unwrap_or_default()).unwrap();
    for port in [1, 2] {
        folder.write("a.yaml", service("a", port));
        changes.recv().await.unwrap();
        assert_eq!(services(&folder.files.reload()), [format!("a:{port}")]);
    }
    drop(watch);
    while changes.recv().await.is_some() {}
}
