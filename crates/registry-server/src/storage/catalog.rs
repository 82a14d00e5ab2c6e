//! The catalog: all repositories, found by walking the directories of their names.
//!
//! Names are sorted part by part (`a`, `a/b`, `a-b`), so that a page reads the directories of that page alone.

use std::cmp::Ordering;

use object_store::path::Path;

use super::error::Result;
use super::manifests::Page;
use super::{Storage, layout};
use crate::name::Name;

impl Storage {
    /// The names after `last` of repositories that have manifests or tags.
    pub(crate) async fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Page<String>> {
        self.with_any_of(&["_manifests", "_tags"], last, limit).await
    }

    /// The names after `last` of repositories that have anything.
    pub(crate) async fn all_repositories(&self, last: Option<&str>, limit: usize) -> Result<Page<String>> {
        self.with_any_of(&["_blobs", "_manifests", "_tags", "_referrers"], last, limit).await
    }

    async fn with_any_of(&self, kinds: &[&str], last: Option<&str>, limit: usize) -> Result<Page<String>> {
        let last: Vec<&str> = last.map_or(Vec::new(), |last| last.split('/').collect());
        let mut found: Vec<String> = Vec::new();
        // A stack of directories to look into, the next one on top.
        let mut ahead: Vec<Vec<String>> = vec![Vec::new()];
        while let Some(parts) = ahead.pop() {
            let key = Path::from_iter(std::iter::once(layout::REPOSITORIES).chain(parts.iter().map(String::as_str)));
            let directories = self.objects.directories(&key).await?;
            let is_repository = directories.iter().any(|name| kinds.contains(&name.as_str()));
            if is_repository && order(&parts, &last) == Ordering::Greater {
                found.push(parts.join("/"));
                if found.len() > limit {
                    break;
                }
            }
            for name in directories.into_iter().rev().filter(|name| !name.starts_with('_')) {
                let inner: Vec<String> = parts.iter().cloned().chain([name]).collect();
                if may_hold_more(&inner, &last) && Name::parse(&inner.join("/")).is_some() {
                    ahead.push(inner);
                }
            }
        }
        Ok(Page::of(found.into_iter(), limit))
    }
}

fn order(parts: &[String], last: &[&str]) -> Ordering {
    parts.iter().map(String::as_str).cmp(last.iter().copied())
}

/// Can a name that begins with these parts come after `last`?
fn may_hold_more(parts: &[String], last: &[&str]) -> bool {
    let common = parts.len().min(last.len());
    parts[..common].iter().map(String::as_str).cmp(last[..common].iter().copied()) != Ordering::Less
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_look_where_more_may_be() {
        let parts = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        let last = ["b", "m"];
        assert!(!may_hold_more(&parts("a"), &last) && !may_hold_more(&parts("b/a"), &last));
        assert!(
            may_hold_more(&parts("b"), &last)
                && may_hold_more(&parts("b/m"), &last)
                && may_hold_more(&parts("c"), &last)
        );
        assert_eq!(order(&parts("b/m"), &last), Ordering::Equal);
        assert_eq!(order(&parts("b/m/a"), &last), Ordering::Greater);
        assert_eq!(order(&parts("b"), &last), Ordering::Less);
    }
}
