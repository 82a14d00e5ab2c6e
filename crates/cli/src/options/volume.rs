//! `-v`: `[SOURCE:]TARGET[:OPTIONS]`.

/// What a value of `-v` asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Volume {
    /// A volume without a name, at this path.
    Anonymous(String),
    /// An entry of `HostConfig.Binds`.
    Bind(String),
}

/// Reads one value; the engine checks paths and options.
pub(crate) fn parse(value: &str) -> Result<Volume, String> {
    if value.is_empty() {
        return Err("invalid empty volume spec".into());
    }
    // Docker takes what is this short for a path, whatever it says.
    if value.len() <= 2 {
        return Ok(Volume::Anonymous(value.to_owned()));
    }
    let Some((source, rest)) = value.split_once(':') else { return Ok(Volume::Anonymous(value.to_owned())) };
    let target = rest.split(':').next().unwrap_or_default();
    if source.is_empty() || target.is_empty() {
        return Err(format!("invalid spec: {value}: empty section between colons"));
    }
    if rest.split(':').count() > 2 && rest.split(':').any(str::is_empty) {
        return Err(format!("invalid spec: {value}: empty section between colons"));
    }
    let source = if source.starts_with('.') { absolute(source) } else { source.to_owned() };
    Ok(Volume::Bind(format!("{source}:{rest}")))
}

/// A path against the current directory, without `.` and `..`, as Go's `filepath.Abs` has it.
pub(crate) fn absolute(path: &str) -> String {
    let Ok(current) = std::env::current_dir() else { return path.to_owned() };
    clean(&current.join(path).to_string_lossy())
}

/// Go's `filepath.Clean` of an absolute path.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        assert_eq!(parse("/data"), Ok(Volume::Anonymous("/data".into())));
        assert_eq!(parse("::"), Ok(Volume::Anonymous("::".into())));
        assert_eq!(parse("name:/data:ro"), Ok(Volume::Bind("name:/data:ro".into())));
        let here = std::env::current_dir().unwrap();
        assert_eq!(parse("./x:/y"), Ok(Volume::Bind(format!("{}/x:/y", here.display()))));
        assert_eq!(parse(":::"), Err("invalid spec: :::: empty section between colons".into()));
        assert_eq!(clean("/a/./b/../c/"), "/a/c");
    }
}
