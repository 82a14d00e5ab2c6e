//! Users and their passwords: a file that `htpasswd -B` writes, read again when the process is told so (SIGHUP).
//!
//! bcrypt is slow on purpose, and clients send the password with each request. So a password that was right is known for a
//! while (by its SHA-256 with the stored hash, not itself), and no more than [`AT_ONCE`] are checked at a time.

use oci::Digest;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Passwords that are checked at once; further ones wait.
const AT_ONCE: usize = 2;
/// How long a right password is known.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// So many are known.
const MOST_KNOWN: usize = 10_000;
/// A hash that no password has: checked for unknown users, so that an answer does not tell who exists.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuMEwX1sPmp1ksy2VcWKvkJyxgJ1SYHF2";

/// Who has which password.
#[derive(Debug)]
pub(crate) struct Users {
    path: PathBuf,
    hashes: RwLock<Arc<HashMap<String, String>>>,
    known: Mutex<HashMap<Digest, Instant>>,
    places: Semaphore,
}

impl Users {
    /// Reads the file.
    pub(crate) fn open(path: PathBuf) -> Result<Self, String> {
        let hashes = RwLock::new(Arc::new(read(&path)?));
        Ok(Self { path, hashes, known: Mutex::default(), places: Semaphore::new(AT_ONCE) })
    }

    /// Reads the file again; what was read before stays when that fails.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let hashes = Arc::new(read(&self.path)?);
        *self.hashes.write().unwrap_or_else(PoisonError::into_inner) = hashes;
        Ok(())
    }

    /// Is this their password?
    pub(crate) async fn verify(&self, user: &str, password: &str) -> bool {
        let hashes = Arc::clone(&self.hashes.read().unwrap_or_else(PoisonError::into_inner));
        let hash = hashes.get(user).cloned();
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        // The stored hash is part of the key: a changed password is not known any more.
        let key = Digest::of(format!("{hash}\0{password}").as_bytes());
        if exists && self.is_known(&key) {
            return true;
        }
        let Ok(_place) = self.places.acquire().await else { return false };
        let password = password.to_owned();
        let checked = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash));
        let right = exists && matches!(checked.await, Ok(Ok(true)));
        if right {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(key, Instant::now());
        }
        right
    }

    fn is_known(&self, key: &Digest) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).is_some_and(|since| since.elapsed() < KNOWN_FOR)
    }
}

fn read(path: &PathBuf) -> Result<HashMap<String, String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut hashes = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = || format!("{} line {}", path.display(), index + 1);
        let (user, hash) = line.split_once(':').ok_or_else(|| format!("{}: user:hash is meant", place()))?;
        if !["$2y$", "$2b$", "$2a$"].iter().any(|prefix| hash.starts_with(prefix)) {
            return Err(format!("{}: only bcrypt hashes are safe enough; make them with htpasswd -B", place()));
        }
        hashes.insert(user.to_owned(), hash.to_owned());
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passwords() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        std::fs::write(&path, format!("# users\nalice:{}\n\n", hash("secret"))).unwrap();
        let users = Users::open(path.clone()).unwrap();
        for _ in 0..2 {
            assert!(users.verify("alice", "secret").await);
            assert!(!users.verify("alice", "wrong").await);
            assert!(!users.verify("bob", "secret").await);
        }
        std::fs::write(&path, format!("alice:{}\n", hash("new"))).unwrap();
        users.reload().unwrap();
        assert!(users.verify("alice", "new").await && !users.verify("alice", "secret").await);
        std::fs::write(&path, "alice:{SHA}abc\n").unwrap();
        assert!(
            users
                .reload()
                .unwrap_err()
                .ends_with("users line 1: only bcrypt hashes are safe enough; make them with htpasswd -B")
        );
        assert!(users.verify("alice", "new").await);
        assert!(bcrypt::verify("x", NOBODY).is_ok());
    }
}
