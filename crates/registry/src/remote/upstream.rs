//! One repository of another registry, asked piece by piece: for a cache that stands in front of it.

use bytes::Bytes;
use oci::Reference;
use oci::digest::Digest;
use oci::manifest::MAX_SIZE;
use reqwest::{Method, StatusCode};

use super::resolve::Resolver;
use super::transport::{Request, Response};
use super::{Actions, Credentials, Remote};
use crate::Client;
use crate::error::{Error, Result};

/// A repository that answered. Keeps its tokens, so it is worth keeping.
pub struct Upstream(Remote);

/// A blob on its way.
pub struct UpstreamBlob {
    response: Response,
    /// In bytes.
    pub size: u64,
}

impl Client {
    /// Reaches a repository at the first of its registry's endpoints that answers.
    pub async fn upstream(&self, repository: &Reference, credentials: &Credentials) -> Result<Upstream> {
        let resolver = Resolver::default();
        let mut failure = Error::Task;
        for endpoint in self.endpoints(repository.domain(), &resolver, Actions::Pull).await? {
            match self.connect(endpoint, &resolver, repository, credentials, Actions::Pull).await {
                Ok(remote) => return Ok(Upstream(remote)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

impl Upstream {
    /// The digest that a tag stands for now; None when the registry does not say, also because it has no such tag.
    pub async fn digest_of(&self, tag: &str) -> Result<Option<Digest>> {
        self.0.digest_of(tag).await
    }

    /// A manifest or index by tag or digest, verified; with its digest. Fails with [`Error::Registry`] when there is none.
    pub async fn manifest(&self, reference: &str) -> Result<(Digest, Vec<u8>)> {
        let expected: Option<Digest> = reference.parse().ok();
        let fetched = self.0.manifest(reference, expected.as_ref()).await?;
        Ok((fetched.digest, fetched.bytes))
    }

    /// The length of a blob in bytes; None if there is none.
    pub async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let url = self.0.repository_url(&format!("blobs/{digest}"))?;
        let response = self.0.send(Request::new(Method::HEAD, url)).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(response.header("content-length").parse().ok()),
            _ => Err(response.into_error().await),
        }
    }

    /// Begins to read a blob; None if there is none, or if its registry does not say how long it is. What comes is not
    /// verified.
    pub async fn blob(&self, digest: &Digest) -> Result<Option<UpstreamBlob>> {
        match self.0.blob(digest, 0, 0).await {
            Err(Error::UnknownBlob) => Ok(None),
            Err(error) => Err(error),
            Ok(body) => {
                let size = body.response.content_length();
                Ok(size.map(|size| UpstreamBlob { response: body.response, size }))
            }
        }
    }

    /// All tags.
    pub async fn tags(&self) -> Result<Vec<String>> {
        self.0.tags().await
    }

    /// The index of the manifests that have this one as their subject; None if the registry has no such list.
    pub async fn referrers(&self, subject: &Digest) -> Result<Option<Vec<u8>>> {
        let url = self.0.repository_url(&format!("referrers/{subject}"))?;
        let response = self.0.send(Request::new(Method::GET, url)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(response.success().await?.bytes("referrers", MAX_SIZE as u64).await?))
    }
}

impl UpstreamBlob {
    /// The next bytes, None at the end. Ending early is an error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.response.chunk().await
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Upstream").field(&format_args!("{}/{}", self.0.domain, self.0.path)).finish()
    }
}
