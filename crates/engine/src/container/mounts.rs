//! What the user wrote as `-v`, `--mount`, `--tmpfs` and `--volumes-from`, taken apart and checked with dockerd's sentences.

use api::container::{Mount, TmpfsOptions};

use super::record::{MountKind, MountRecord};
use crate::error::{Error, Kind, Result};

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];
const DEFAULT_PROPAGATION: &str = "rprivate";

/// Lexical cleaning of a path as Go's `path.Clean` does it.
pub(crate) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// A relative path that stays below its start (Go's `filepath.IsLocal`).
fn is_local(path: &str) -> bool {
    let clean = clean(path);
    !path.is_empty() && !path.starts_with('/') && clean != ".." && !clean.starts_with("../")
}

/// The checks that a mount's target has to pass whatever backs it.
pub(crate) fn validate_target(target: &str) -> Result<(), String> {
    if clean(target) == "/" {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    absolute(target)
}

fn absolute(path: &str) -> Result<(), String> {
    if path.starts_with('/') {
        return Ok(());
    }
    Err(format!("invalid mount path: '{path}' mount path must be absolute"))
}

/// `invalid mount config for type "x": …`, with the check that a bind source exists where the API asks for it.
pub(crate) fn validate(mount: &Mount, source_must_exist: bool) -> Result<()> {
    check(mount, source_must_exist)
        .map_err(|why| Error::invalid(format!("invalid mount config for type {:?}: {why}", mount.kind)))
}

fn check(mount: &Mount, source_must_exist: bool) -> Result<(), String> {
    if mount.target.is_empty() {
        return Err("field Target must not be empty".to_owned());
    }
    validate_target(&mount.target)?;
    match mount.kind.as_str() {
        "bind" => check_bind(mount, source_must_exist),
        "volume" => check_volume(mount),
        "tmpfs" => {
            refuse_field(mount.bind_options.is_some(), "BindOptions")?;
            refuse_field(mount.image_options.is_some(), "ImageOptions")?;
            refuse_field(!mount.source.is_empty(), "Source")?;
            tmpfs_options(mount.tmpfs_options.as_ref(), mount.read_only).map(drop)
        }
        "image" => Err("mounting an image is not supported by this engine".to_owned()),
        _ => Err("mount type unknown".to_owned()),
    }
}

fn refuse_field(present: bool, name: &str) -> Result<(), String> {
    if present { Err(format!("field {name} must not be specified")) } else { Ok(()) }
}

fn check_bind(mount: &Mount, source_must_exist: bool) -> Result<(), String> {
    if mount.source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    let options = mount.bind_options.as_ref();
    if let Some(propagation) = options.map(|o| o.propagation.as_str()).filter(|p| !p.is_empty())
        && !PROPAGATIONS.contains(&propagation)
    {
        return Err(format!("invalid propagation mode: {propagation}"));
    }
    refuse_field(mount.volume_options.is_some(), "VolumeOptions")?;
    refuse_field(mount.image_options.is_some(), "ImageOptions")?;
    absolute(&mount.source)?;
    let may_be_created = options.is_some_and(|o| o.create_mountpoint);
    if source_must_exist && !may_be_created && !std::path::Path::new(&mount.source).exists() {
        return Err(format!("bind source path does not exist: {}", mount.source));
    }
    Ok(())
}

fn check_volume(mount: &Mount) -> Result<(), String> {
    refuse_field(mount.bind_options.is_some(), "BindOptions")?;
    refuse_field(mount.image_options.is_some(), "ImageOptions")?;
    let anonymous = mount.source.is_empty();
    let subpath = mount.volume_options.as_ref().map_or("", |o| o.subpath.as_str());
    if !subpath.is_empty() && anonymous {
        return Err("must not set Subpath when using anonymous volumes".to_owned());
    }
    if !subpath.is_empty() && !is_local(subpath) {
        return Err("subpath must be a relative path within the volume".to_owned());
    }
    if mount.read_only && anonymous {
        return Err("must not set ReadOnly mode when using anonymous volumes".to_owned());
    }
    Ok(())
}

/// The options of a tmpfs as the kernel takes them, comma-separated.
pub(crate) fn tmpfs_options(options: Option<&TmpfsOptions>, read_only: bool) -> Result<String, String> {
    let mut list = Vec::new();
    if read_only {
        list.push("ro".to_owned());
    }
    if let Some(options) = options {
        if options.mode != 0 {
            list.push(format!("mode={:o}", options.mode));
        }
        if options.size_bytes != 0 {
            // The largest unit that divides it: what dockerd prints, so what inspect of the spec shows.
            let (divisor, unit) = [(1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k")]
                .into_iter()
                .find(|(divisor, _)| options.size_bytes % divisor == 0)
                .unwrap_or((1, ""));
            list.push(format!("size={}{unit}", options.size_bytes / divisor));
        }
        for option in &options.options {
            let [name] = option.as_slice() else {
                return Err(match option.as_slice() {
                    [name, _] if name == "exec" || name == "noexec" => format!("invalid option: {name}"),
                    [name, _] => format!("invalid option: {name}"),
                    _ => "invalid option array length".to_owned(),
                });
            };
            if name != "exec" && name != "noexec" {
                return Err(format!("invalid option: {name}"));
            }
            list.push(name.clone());
        }
    }
    Ok(list.join(","))
}

/// The words of a `-v` mode. Each class at most once.
fn valid_mode(mode: &str) -> bool {
    if mode.is_empty() {
        return true;
    }
    let mut seen = [0u8; 5];
    for word in mode.split(',') {
        let class = match word {
            "rw" | "ro" => 0,
            "z" | "Z" => 1,
            word if PROPAGATIONS.contains(&word) => 2,
            "nocopy" => 3,
            "consistent" | "cached" | "delegated" | "default" => 4,
            _ => return false,
        };
        seen[class] += 1;
    }
    seen.iter().all(|count| *count <= 1)
}

fn propagation_of(mode: &str) -> Option<&str> {
    mode.split(',').find(|word| PROPAGATIONS.contains(word))
}

/// One `-v` text (`DEST`, `SRC:DEST`, `SRC:DEST:MODE`). dockerd answers 500 here.
pub(crate) fn parse_bind(spec: &str, volume_driver: &str) -> Result<MountRecord> {
    let invalid = || Error::system(format!("invalid volume specification: '{spec}'"));
    let parts: Vec<&str> = spec.splitn(4, ':').collect();
    let (source, target, mode) = match parts.as_slice() {
        ["", ..] => return Err(invalid()),
        [target] => ("", *target, ""),
        // A volume has no mode of its own: `/foo:ro` is a mistake.
        [_, mode] if valid_mode(mode) => return Err(invalid()),
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(invalid()),
    };
    if !valid_mode(mode) {
        return Err(Error::system(format!("invalid mode: {mode}")));
    }
    let bind = source.starts_with('/');
    let words: Vec<&str> = mode.split(',').collect();
    let propagation = propagation_of(mode);
    let mount = Mount {
        kind: if bind { "bind" } else { "volume" }.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: words.contains(&"ro"),
        bind_options: propagation
            .map(|p| api::container::BindOptions { propagation: p.to_owned(), ..Default::default() }),
        volume_options: words
            .contains(&"nocopy")
            .then(|| api::container::VolumeOptions { no_copy: true, ..Default::default() }),
        ..Default::default()
    };
    validate(&mount, false)
        .map_err(|why| Error::system(format!("invalid volume specification: '{spec}': {}", why.message())))?;
    let mut record = from_mount(&mount);
    record.mode = mode.to_owned();
    record.create_source = bind;
    if !bind {
        record.driver = volume_driver.to_owned();
    }
    Ok(record)
}

/// A mount of the API, already checked.
pub(crate) fn from_mount(mount: &Mount) -> MountRecord {
    let kind = match mount.kind.as_str() {
        "bind" => MountKind::Bind,
        "tmpfs" => MountKind::Tmpfs,
        _ => MountKind::Volume,
    };
    let bind = mount.bind_options.clone().unwrap_or_default();
    let volume = mount.volume_options.clone().unwrap_or_default();
    MountRecord {
        kind,
        destination: clean(&mount.target),
        source: if kind == MountKind::Bind { clean(&mount.source) } else { String::new() },
        name: if kind == MountKind::Volume { mount.source.clone() } else { String::new() },
        driver: volume.driver_config.map(|d| d.name).unwrap_or_default(),
        rw: !mount.read_only,
        mode: String::new(),
        propagation: match (kind, bind.propagation.as_str()) {
            (MountKind::Bind, "") => DEFAULT_PROPAGATION.to_owned(),
            (MountKind::Bind, given) => given.to_owned(),
            _ => String::new(),
        },
        copy: kind == MountKind::Volume && !volume.no_copy,
        anonymous: kind == MountKind::Volume && mount.source.is_empty(),
        create_source: bind.create_mountpoint,
        non_recursive: bind.non_recursive,
        read_only_non_recursive: bind.read_only_non_recursive,
        read_only_force_recursive: bind.read_only_force_recursive,
        subpath: volume.subpath,
        tmpfs_options: if kind == MountKind::Tmpfs {
            // Checked by `validate` before.
            tmpfs_options(mount.tmpfs_options.as_ref(), mount.read_only).unwrap_or_default()
        } else {
            String::new()
        },
        hidden: false,
    }
}

/// `CONTAINER[:MODE]` of `--volumes-from`: the container and whether its volumes are writable.
pub(crate) fn parse_volumes_from(spec: &str) -> Result<(&str, &str)> {
    if spec.is_empty() {
        return Err(Error::system("volumes-from specification cannot be an empty string"));
    }
    let (id, mode) = spec.split_once(':').unwrap_or((spec, ""));
    if mode.is_empty() {
        return Ok((id, "rw"));
    }
    if !valid_mode(mode) || propagation_of(mode).is_some() || mode.split(',').any(|word| word == "nocopy") {
        return Err(Error::new(Kind::System, format!("invalid mode: {mode}")));
    }
    Ok((id, mode))
}

/// One entry of `HostConfig.Tmpfs`.
pub(crate) fn from_tmpfs(destination: &str, options: &str) -> MountRecord {
    let mount = Mount { kind: "tmpfs".to_owned(), target: destination.to_owned(), ..Default::default() };
    MountRecord { tmpfs_options: options.to_owned(), hidden: true, ..from_mount(&mount) }
}

/// An anonymous volume at a path that the image or the request names.
pub(crate) fn anonymous(destination: &str) -> MountRecord {
    from_mount(&Mount { kind: "volume".to_owned(), target: destination.to_owned(), ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (dirty, cleaned) in [
            ("/a/../b", "/b"),
            ("/", "/"),
            ("//a//", "/a"),
            ("a/..", "."),
            ("../a", "../a"),
            ("/../a", "/a"),
            ("", "."),
        ] {
            assert_eq!(clean(dirty), cleaned, "{dirty}");
        }
    }

    #[test]
    fn binds_are_taken_apart() {
        let bind = parse_bind("/src/:/dst/:ro,rslave", "").unwrap();
        assert_eq!((bind.kind, bind.source.as_str(), bind.destination.as_str()), (MountKind::Bind, "/src", "/dst"));
        assert_eq!((bind.rw, bind.propagation.as_str(), bind.mode.as_str()), (false, "rslave", "ro,rslave"));
        let volume = parse_bind("data:/dst:nocopy", "local").unwrap();
        assert_eq!((volume.kind, volume.name.as_str(), volume.copy), (MountKind::Volume, "data", false));
        assert!(parse_bind("/dst", "").unwrap().anonymous);
    }

    #[test]
    fn mistakes_are_named_as_dockerd_does() {
        for (spec, text) in [
            (
                "a",
                "invalid volume specification: 'a': invalid mount config for type \"volume\": invalid mount path: 'a' mount path must be absolute",
            ),
            ("/nosuch:/b:zz", "invalid mode: zz"),
            (
                "/tmp:/",
                "invalid volume specification: '/tmp:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
            ("/foo:ro", "invalid volume specification: '/foo:ro'"),
            ("", "invalid volume specification: ''"),
            ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        ] {
            assert_eq!(parse_bind(spec, "").unwrap_err().message(), text);
        }
    }

    #[test]
    fn tmpfs_sizes_use_the_largest_unit() {
        let options = TmpfsOptions { size_bytes: 64 << 20, mode: 0o1770, ..Default::default() };
        assert_eq!(tmpfs_options(Some(&options), true).unwrap(), "ro,mode=1770,size=64m");
    }
}
