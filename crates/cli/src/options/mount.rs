//! `--mount`: `type=bind,source=/a,target=/b,readonly,…`.

use super::csv;
use crate::flags::parse_bytes;
use api::container::{BindOptions, DriverConfig, ImageOptions, Mount, TmpfsOptions, VolumeOptions};

/// Refuses a value while flags are read.
pub(crate) fn check(value: &str) -> Result<(), String> {
    parse(value).map(drop)
}

/// Reads one value.
pub(crate) fn parse(value: &str) -> Result<Mount, String> {
    if value.trim().is_empty() {
        return Err("EOF".into());
    }
    let mut mount = Mount { kind: "volume".into(), ..Mount::default() };
    for field in csv::fields(value.trim())? {
        let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        let key = key.to_lowercase();
        // These may stand alone: naming them switches them on.
        let Some(value) = value else {
            match key.as_str() {
                "readonly" | "ro" => mount.read_only = true,
                "volume-nocopy" => volume(&mut mount).no_copy = true,
                "bind-nonrecursive" => bind(&mut mount).non_recursive = true,
                _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
            }
            continue;
        };
        set(&mut mount, &key, value, &field)?;
    }
    if mount.kind.is_empty() {
        return Err("type is required".into());
    }
    if mount.target.is_empty() {
        return Err("target is required".into());
    }
    mixed(&mount)?;
    if mount
        .bind_options
        .as_ref()
        .is_some_and(|options| options.read_only_non_recursive || options.read_only_force_recursive)
    {
        read_only_rules(&mount)?;
    }
    Ok(mount)
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_default()
}

fn driver(mount: &mut Mount) -> &mut DriverConfig {
    volume(mount).driver_config.get_or_insert_default()
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_default()
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_default()
}

fn switch(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("invalid value for {key}: {value}")),
    }
}

fn set(mount: &mut Mount, key: &str, value: &str, field: &str) -> Result<(), String> {
    match key {
        "type" => mount.kind = value.to_lowercase(),
        "source" | "src" => {
            mount.source = value.to_owned();
            if value == "." || value.starts_with("./") || value.starts_with("../") || value == ".." {
                let absolute = super::volume::absolute(value);
                mount.source = absolute;
            }
        }
        "target" | "dst" | "destination" => mount.target = value.to_owned(),
        "readonly" | "ro" => mount.read_only = switch(key, value)?,
        "consistency" => mount.consistency = value.to_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = switch(key, value)?,
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => {
                return Err(format!(
                    "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "volume-subpath" => volume(mount).subpath = value.to_owned(),
        "volume-nocopy" => {
            volume(mount).no_copy =
                switch(key, value).map_err(|_| format!("invalid value for volume-nocopy: {value}"))?;
        }
        "volume-label" => pair(&mut volume(mount).labels, value),
        "volume-driver" => driver(mount).name = value.to_owned(),
        "volume-opt" => pair(&mut driver(mount).options, value),
        "image-subpath" => mount.image_options.get_or_insert_with(ImageOptions::default).subpath = value.to_owned(),
        "tmpfs-size" => {
            tmpfs(mount).size_bytes = parse_bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
        }
        "tmpfs-mode" => {
            tmpfs(mount).mode =
                u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn pair(map: &mut std::collections::BTreeMap<String, String>, value: &str) {
    let (key, value) = value.split_once('=').unwrap_or((value, ""));
    map.insert(key.to_owned(), value.to_owned());
}

/// Options of one type on a mount of another.
fn mixed(mount: &Mount) -> Result<(), String> {
    let mix = |options: &str| Err(format!("cannot mix '{options}' options with mount type '{}'", mount.kind));
    match mount.kind.as_str() {
        kind if mount.volume_options.is_some() && kind != "volume" => mix("volume-*"),
        kind if mount.image_options.is_some() && kind != "image" => mix("image-*"),
        kind if mount.bind_options.is_some() && kind != "bind" => mix("bind-*"),
        kind if mount.tmpfs_options.is_some() && kind != "tmpfs" => mix("tmpfs-*"),
        _ => Ok(()),
    }
}

fn read_only_rules(mount: &Mount) -> Result<(), String> {
    let Some(options) = &mount.bind_options else { return Ok(()) };
    if !mount.read_only {
        let value = if options.read_only_non_recursive { "writable" } else { "readonly" };
        return Err(format!("option 'bind-recursive={value}' requires 'readonly' to be specified in conjunction"));
    }
    if options.read_only_force_recursive && options.propagation != "rprivate" {
        return Err(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                .into(),
        );
    }
    Ok(())
}

/// `--tmpfs /path[:options]`.
pub(crate) fn tmpfs_flag(value: &str) -> (String, String) {
    let (path, options) = value.split_once(':').unwrap_or((value, ""));
    (path.to_owned(), options.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        let mount = parse("type=bind,source=/a,target=/b,readonly,bind-propagation=rslave").unwrap();
        assert_eq!((mount.kind.as_str(), mount.source.as_str(), mount.target.as_str()), ("bind", "/a", "/b"));
        assert!(mount.read_only && mount.bind_options.unwrap().propagation == "rslave");
        let mount = parse("src=v,dst=/b,volume-opt=type=tmpfs,volume-label=a=b,volume-nocopy").unwrap();
        let options = mount.volume_options.unwrap();
        assert!(options.no_copy && options.labels["a"] == "b");
        assert_eq!(options.driver_config.unwrap().options["type"], "tmpfs");
        let mount = parse("type=tmpfs,target=/x,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        let options = mount.tmpfs_options.unwrap();
        assert_eq!((options.size_bytes, options.mode), (1 << 20, 0o1770));
        assert_eq!(parse(r#"target=/x,"src=a,b""#).unwrap().source, "a,b");
    }

    #[test]
    fn refused() {
        let cases = [
            ("x", "invalid field 'x' must be a key=value pair"),
            ("type=volume", "target is required"),
            ("type=tmpfs,target=/x,volume-nocopy=true", "cannot mix 'volume-*' options with mount type 'tmpfs'"),
            ("target=/x,foo=bar", "unexpected key 'foo' in 'foo=bar'"),
            ("target=/x,readonly=maybe", "invalid value for readonly: maybe"),
        ];
        for (value, expected) in cases {
            assert_eq!(parse(value).unwrap_err(), expected, "{value}");
        }
    }
}
