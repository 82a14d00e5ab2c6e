//! `hosts.toml` and the directories of certificates: mirrors of any registry, own authorities, certificates of the client.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use registry::{Client, Credentials, Options};
use support::fake::{Fake, Reply, Request};
use support::image::image;
use support::{TestStore, pull_with};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/tests/certificates").join(name)
}

/// TLS in front of a port of the local host; only for those who show a certificate of our authority.
async fn with_tls(target: u16) -> u16 {
    let provider = Arc::new(crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate("ca.pem")).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(certificate("server.pem")).unwrap().map(Result::unwrap).collect();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(certificate("server.key")).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(stream).await else { return };
                let Ok(mut plain) = TcpStream::connect(("127.0.0.1", target)).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
            });
        }
    });
    port
}

/// A client that reads this file for a registry.
fn client(dir: &Path, registry: &str, hosts: &str) -> Client {
    std::fs::create_dir_all(dir.join(registry)).unwrap();
    std::fs::write(dir.join(registry).join("hosts.toml"), hosts).unwrap();
    Client::new(Options { certs_dirs: vec![dir.to_owned()], ..support::options() })
}

/// A registry name that nobody has.
const NAME: &str = "registry.invalid";

#[tokio::test]
async fn mirrors_of_any_registry_with_failover() {
    let good = image(1, 1, 1000);
    let broken =
        Fake::serve(good.clone(), |r| (r.path != "/v2/?ns=registry.invalid").then(|| Reply::new(500, ""))).await;
    let pushes_only =
        Fake::serve(good.clone(), |r| (r.method == "PUT").then(|| Reply::error(403, "DENIED", "not now"))).await;
    let mirror = Fake::serve(good.clone(), |_| None).await;
    let server = Fake::serve(good.clone(), |r| {
        (r.header("authorization") != "Basic dTpw")
            .then(|| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""))
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let hosts = format!(
        "server = \"http://127.0.0.1:{}\"\n\
         [host.\"http://127.0.0.1:{}\"]\n\
         [host.\"http://127.0.0.1:{}\"]\ncapabilities = [\"push\"]\n\
         [host.\"http://127.0.0.1:{}\"]\ncapabilities = [\"pull\", \"resolve\"]\nheader = {{ x-team = \"a\" }}\n",
        server.port, broken.port, pushes_only.port, mirror.port
    );
    let client = client(dir.path(), NAME, &hosts);
    let store = TestStore::new();
    let basic = Credentials::Basic { username: "u".into(), password: "p".into() };
    let (pulled, told) = pull_with(&client, &format!("{NAME}/a"), &store.store, &basic).await;
    pulled.unwrap();
    assert_eq!(told[0], "latest: Pulling from a");
    assert!(store.store.image_resolve(&format!("{NAME}/a:latest")).is_ok());
    assert!(!broken.requests().is_empty() && pushes_only.requests().is_empty() && server.requests().is_empty());
    let seen = mirror.requests();
    assert!(seen.iter().all(|r| r.header("authorization").is_empty()), "a mirror is somebody else");
    assert!(seen.iter().all(|r| r.header("x-team") == "a" && r.path.contains("ns=registry.invalid")));

    // A push goes to hosts that may be pushed to, and when those fail to the registry itself, which is told who asks.
    let before = broken.requests().len();
    let name = format!("{NAME}/a:latest");
    let (sender, receiver) = tokio::sync::mpsc::channel(registry::QUEUE);
    let _told = support::lines(receiver);
    client.push(&[name.parse().unwrap()], &basic, &store.store, &sender).await.unwrap();
    assert_eq!((broken.requests().len(), mirror.requests().len()), (before, seen.len()), "these are for pulls");
    let puts =
        |fake: &Fake| fake.requests().iter().filter(|r| r.method == "PUT").map(Request::line).collect::<Vec<_>>();
    assert_eq!(puts(&pushes_only), ["PUT /v2/a/manifests/latest?ns=registry.invalid"]);
    assert!(pushes_only.requests().iter().all(|r| r.header("authorization").is_empty()));
    assert_eq!(puts(&server), ["PUT /v2/a/manifests/latest"]);

    // A copy goes the same way.
    let (from, to) = (mirror.name("a").parse().unwrap(), name.parse().unwrap());
    let between = registry::Between {
        source: &from,
        destination: &to,
        platform: None,
        source_credentials: &Credentials::Anonymous,
        destination_credentials: &basic,
    };
    client.copy(between, &sender).await.unwrap();
    assert_eq!((puts(&pushes_only).len(), puts(&server).len()), (2, 2));

    // Who logs in asks the registry, also where it may only be pulled from.
    let hosts = format!("server = \"http://127.0.0.1:{}\"\ncapabilities = [\"pull\", \"resolve\"]\n", server.port);
    let client = self::client(dir.path(), "pulls.invalid", &hosts);
    assert_eq!(client.login("pulls.invalid", basic).await.unwrap(), None);
}

#[tokio::test]
async fn own_authorities_and_certificates_of_the_client() {
    let good = image(1, 1, 1000);
    let fake = Fake::serve(good.clone(), |_| None).await;
    let port = with_tls(fake.port).await;
    let dir = tempfile::tempdir().unwrap();
    for (name, hosts, expected) in [
        ("no-ca.invalid", String::new(), "certificate signed by unknown authority"),
        ("no-client.invalid", format!("ca = {:?}\n", certificate("ca.pem")), ""),
    ] {
        let hosts = format!("server = \"https://127.0.0.1:{port}\"\n{hosts}");
        let client = client(dir.path(), name, &hosts);
        let (pulled, _) =
            pull_with(&client, &format!("{name}/a"), &TestStore::new().store, &Credentials::Anonymous).await;
        let error = pulled.unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    for (name, trust) in [
        ("verified.invalid", format!("ca = [{:?}]", certificate("ca.pem"))),
        ("any.invalid", "skip_verify = true".into()),
    ] {
        let (shown, key) = (certificate("client.pem"), certificate("client.key"));
        let hosts = format!("server = \"https://127.0.0.1:{port}\"\n{trust}\nclient = [[{shown:?}, {key:?}]]\n");
        let client = client(dir.path(), name, &hosts);
        let name = format!("{name}/a");
        pull_with(&client, &name, &TestStore::new().store, &Credentials::Anonymous).await.0.unwrap();
    }

    // Docker's layout: the files alone.
    let docker = tempfile::tempdir().unwrap();
    let own = docker.path().join(format!("127.0.0.1:{port}"));
    std::fs::create_dir(&own).unwrap();
    for (from, to) in [("ca.pem", "ca.crt"), ("client.pem", "client.cert"), ("client.key", "client.key")] {
        std::fs::copy(certificate(from), own.join(to)).unwrap();
    }
    let client = Client::new(Options { certs_dirs: vec![docker.path().to_owned()], ..support::options() });
    let name = format!("127.0.0.1:{port}/a");
    pull_with(&client, &name, &TestStore::new().store, &Credentials::Anonymous).await.0.unwrap();
}

#[tokio::test]
async fn files_that_are_wrong_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let client = client(dir.path(), "_default", "skip_verfy = true\n");
    let (pulled, _) = pull_with(&client, "x.invalid/a", &TestStore::new().store, &Credentials::Anonymous).await;
    let error = pulled.unwrap_err().to_string();
    assert!(error.contains("_default/hosts.toml") && error.contains("skip_verfy"), "{error}");
}
