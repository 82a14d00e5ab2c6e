//! Plain downloads from the web, for archives that are imported by their URL. The rules are those of registries: no
//! wait without a limit, certificates verified, redirects that lose nothing.

use bytes::Bytes;
use reqwest::{Method, Url};

use crate::Client;
use crate::error::{Error, Result};
use crate::remote::endpoint::{Endpoint, Trust};
use crate::remote::resolve::Resolver;
use crate::remote::transport::{Request, Response, Transport};

/// A body that is being read.
pub struct Download {
    response: Response,
}

impl Client {
    /// Asks for a URL (`http` or `https`).
    pub async fn download(&self, url: &str) -> Result<Download> {
        let unsupported =
            |scheme: &str| Error::Setup(format!("Get \"{url}\": unsupported protocol scheme \"{scheme}\""));
        let parsed = Url::parse(url).map_err(|error| Error::Setup(format!("parse \"{url}\": {error}")))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(unsupported(parsed.scheme()));
        }
        let base = parsed.origin().ascii_serialization();
        let endpoint = Endpoint::new(&base, Trust::Verified);
        let transport = Transport::new(&endpoint, &self.options, &Resolver::default(), &self.connections).await?;
        let response = transport.send(Request::new(Method::GET, parsed)).await?;
        if !response.status().is_success() {
            return Err(Error::Setup(format!("bad response from \"{url}\": {}", response.status())));
        }
        Ok(Download { response })
    }
}

impl Download {
    /// Length of the body in bytes, if the server says so.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next bytes; none at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.response.chunk().await
    }
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Download")
    }
}
