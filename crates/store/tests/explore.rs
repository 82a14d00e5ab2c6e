//! What is in the layers of an image, and what it wastes.

mod support;

use store::ChangeKind;
use support::{Tar, TestStore};

/// A layer in one line each: change, path, `!` for what is wasted.
fn lines(files: &[store::LayerFile]) -> Vec<String> {
    let letter = |change| match change {
        ChangeKind::Added => 'A',
        ChangeKind::Modified => 'C',
        ChangeKind::Deleted => 'D',
    };
    let mark = |file: &store::LayerFile| if file.is_wasted { "!" } else { "" };
    files.iter().map(|file| format!("{} {}{}", letter(file.change), file.path.display(), mark(file))).collect()
}

#[test]
fn each_layer_and_its_waste() {
    let test = TestStore::new();
    let image = test.image(&[
        Tar::new()
            .dir("etc", 0o755)
            .file("etc/a", b"1234567890")
            .file("etc/b", b"12345")
            .dir("opt", 0o755)
            .file("opt/x", b"123")
            .dir("opt/sub", 0o755)
            .file("opt/sub/y", b"1")
            .hardlink("h", "etc/b")
            .dir("var", 0o755)
            .file("var/log", b"1234")
            .done(),
        Tar::new()
            .dir("etc", 0o755)
            .file("etc/a", b"12345678901234567890")
            .file(".wh.opt", b"")
            .dir("var", 0o700)
            .file("var/.wh..wh..opq", b"")
            .file("var/new", b"1")
            .done(),
        Tar::new().file("etc", b"a file now").file("opt", b"again").done(),
    ]);
    let layers = test.store.image_layers(&image).unwrap();
    let first = [
        "A /etc!",
        "A /etc/a!",
        "A /etc/b!",
        "A /h",
        "A /opt!",
        "A /opt/sub!",
        "A /opt/sub/y!",
        "A /opt/x!",
        "A /var!",
        "A /var/log!",
    ];
    assert_eq!(lines(&layers[0].files), first);
    // The link to etc/b keeps that file's bytes alive, but which of the names was first is the directory's order.
    assert_eq!(layers[0].size, 10 + 5 + 3 + 1 + 4);
    assert!([10 + 3 + 1 + 4, 10 + 5 + 3 + 1 + 4].contains(&layers[0].wasted), "{}", layers[0].wasted);
    let second = ["C /etc/a!", "D /opt", "C /var", "D /var/log", "A /var/new"];
    assert_eq!(lines(&layers[1].files), second);
    assert_eq!((layers[1].size, layers[1].wasted), (21, 20));
    assert_eq!(lines(&layers[2].files), ["C /etc", "A /opt"]);
    assert_eq!((layers[2].size, layers[2].wasted), (15, 0));
}
