//! An engine with roots, a bridge and a cgroup parent of its own, and an image made of the host's busybox.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use api::container::{CreateRequest, HostConfig};
use engine::{Engine, EngineConfig, RemoveOptions};
use futures_util::StreamExt;
use oci::Reference;
use store::{NewImage, Store};

/// Where the program is that is executed as the shim: `GANTRY_BIN`, else the one that cargo built beside this test.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("GANTRY_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join("gantry");
    assert!(path.exists(), "{} is missing: run `cargo build -p gantry` or set GANTRY_BIN", path.display());
    path
}

/// One engine of its own.
pub struct World {
    pub engine: Arc<Engine>,
    pub config: EngineConfig,
    // Last: dropped after the engine.
    roots: Roots,
}

/// What has to be cleaned up, also after a failed test.
struct Roots {
    config: EngineConfig,
    network: Option<network::Network>,
    directory: tempfile::TempDir,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl World {
    pub async fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        let directory = tempfile::Builder::new().prefix("gantry-engine-").tempdir().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let unique = (std::process::id() % 50_000) * 16 + number % 16;
        let config = EngineConfig {
            data_root: directory.path().join("data"),
            exec_root: directory.path().join("exec"),
            program: program(),
            bridge_name: format!("gtest{unique}"),
            cgroup_parent: Some(format!("/gantry-test-{unique}")),
            ..EngineConfig::default()
        };
        let engine = Engine::start(config.clone()).await.expect("the engine starts");
        import_busybox(&engine.store);
        let roots = Roots { config: config.clone(), network: Some(engine.network.clone()), directory };
        Self { engine, config, roots }
    }

    /// Drops the engine as a crash would (nothing is told), and starts another on the same roots.
    pub async fn restart(self) -> Self {
        self.restart_after(|| {}).await
    }

    /// The same with something that happens in between.
    pub async fn restart_after(self, between: impl FnOnce()) -> Self {
        let Self { engine, config, mut roots } = self;
        roots.network = None;
        let old = Arc::downgrade(&engine);
        drop(engine);
        between();
        // Tasks that still hold it let go of it soon; the store's lock tells.
        let mut tries = 0;
        let engine = loop {
            match Engine::start(config.clone()).await {
                Ok(engine) => break engine,
                Err(error) if tries == 500 => panic!("{error} ({} references)", old.strong_count()),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        roots.network = Some(engine.network.clone());
        Self { engine, config, roots }
    }

    pub fn path(&self) -> &Path {
        self.roots.directory.path()
    }

    /// A request for busybox with this command.
    pub fn request(words: &[&str]) -> CreateRequest {
        let mut request = CreateRequest::default();
        request.config.image = "busybox".to_owned();
        request.config.cmd = Some(words.iter().map(|w| (*w).to_owned()).collect());
        request.host_config = HostConfig { network_mode: "none".to_owned(), ..HostConfig::default() };
        request
    }

    pub async fn create(&self, name: &str, request: CreateRequest) -> String {
        self.engine.container_create(Some(name), None, request).await.expect("the container is created").id
    }

    /// Creates and starts.
    pub async fn run(&self, name: &str, request: CreateRequest) -> String {
        let id = self.create(name, request).await;
        self.engine.container_start(&id).await.expect("the container starts");
        id
    }

    /// Waits for the end and gives the exit code.
    pub async fn exit_code(&self, id: &str) -> i64 {
        let wait = self.engine.container_wait(id, engine::WaitCondition::NotRunning).await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it ends").unwrap().status_code
    }

    /// Text of the log file.
    pub async fn log(&self, id: &str) -> String {
        let path = self.config.data_root.join("containers").join(id).join(format!("{id}-json.log"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["log"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until the container has said this.
    pub async fn says(&self, id: &str, wanted: &str) {
        let options = engine::LogsOptions { stdout: true, follow: true, ..Default::default() };
        let mut output = self.engine.container_logs(id, options).await.expect("its log").output;
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains(wanted) {
            let piece = tokio::time::timeout(Duration::from_secs(30), output.next()).await.expect("it says so in time");
            said.extend_from_slice(&piece.expect("it goes on").expect("a piece of its log"));
        }
    }

    /// Removes everything; panics when something stays behind.
    pub async fn end(self) {
        for container in self.engine.all_containers() {
            let options = RemoveOptions { force: true, volumes: true, link: false };
            self.engine.container_remove(container.id(), options).await.expect("a container is removed");
        }
        self.engine.shutdown().await;
        let runs = std::fs::read_dir(self.config.exec_root.join("containers")).unwrap().count();
        assert_eq!(runs, 0, "run directories are left");
        let containers = std::fs::read_dir(self.config.data_root.join("containers")).unwrap().count();
        assert_eq!(containers, 0, "containers are left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.path().to_str().unwrap()), "mounts are left");
    }
}

impl Drop for Roots {
    /// After a failed test: end what runs, by the shims that the engine started, and take the bridge away.
    fn drop(&mut self) {
        let shims = std::fs::read_dir(self.config.exec_root.join("shims"));
        for entry in shims.into_iter().flatten().flatten() {
            if let Ok(mut client) = shim::Client::connect(&entry.path()) {
                let _ = client.run(&shim::Request::Shutdown);
            }
        }
        if let Some(network) = &self.network {
            network.reconcile(&[]);
            let _ = network.shutdown();
        }
        if let Some(parent) = &self.config.cgroup_parent
            && let Ok(group) = sys::cgroup::Cgroup::open(Path::new(parent))
        {
            let _ = group.delete();
        }
    }
}

/// An image from the host's static busybox, with a user, a volume's content and a broken passwd line.
pub fn import_busybox(store: &Store) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, content: &[u8], link: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        if link.is_empty() {
            tar.append_data(&mut header, path, content).unwrap();
        } else {
            tar.append_link(&mut header, path, link).unwrap();
        }
    };
    for directory in ["bin", "etc", "tmp", "seed", "seed/deep"] {
        add(directory, tar::EntryType::Directory, 0o755, b"", "");
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find_map(|p| std::fs::read(p).ok());
    add("bin/busybox", tar::EntryType::Regular, 0o755, &busybox.expect("the package busybox-static is installed"), "");
    for name in ["sh", "sleep", "true", "false", "cat", "echo", "id", "ls", "env", "mount", "hostname", "touch", "stat"]
    {
        add(&format!("bin/{name}"), tar::EntryType::Symlink, 0o777, b"", "busybox");
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34::/srv:/bin/sh\n";
    add("etc/passwd", tar::EntryType::Regular, 0o644, passwd, "");
    add("etc/group", tar::EntryType::Regular, 0o644, b"root:x:0:\naudio:x:29:web\nweb:x:34:\n", "");
    add("seed/deep/file", tar::EntryType::Regular, 0o640, b"seeded\n", "");
    let tar = tar.into_inner().unwrap();
    let lease = store.lease();
    let layer = store.layer_import(&lease, None, tar.as_slice()).unwrap();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "IMAGE=1"], "Cmd": ["sh"], "Labels": {"from": "image"}},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let tags = vec![Reference::parse_normalized("busybox").unwrap().with_default_tag()];
    let image = NewImage { config, manifest: None, parent: None, tags, repo_digests: vec![], documents: vec![] };
    store.image_create(&lease, image).unwrap();
}
