//! `system verify`, which Docker does not have.

use crate::client::{Body, Query};
use crate::error::Error;
use crate::format::human;
use crate::progress::{self, Output};
use crate::{Invocation, terminal};
use api::beyond::{Finding, Verified};
use hyper::Method;

/// `gantry system verify`. Exit code 1 says that something is wrong.
pub(crate) async fn verify(call: Invocation) -> Result<u8, Error> {
    let is_quiet = call.values.on("quiet");
    let client = call.client()?;
    let answer = client.send(Method::POST, "/system/verify", &Query::new(), Body::empty, &[]).await?;
    let mut verified = None;
    let output = if is_quiet || !terminal::output_is_terminal() { Output::Quiet } else { Output::Stdout };
    progress::show(answer, output, |aux| verified = serde_json::from_value::<Verified>(aux.clone()).ok()).await?;
    let verified = verified.ok_or_else(|| Error::Protocol("the engine did not say what it found".into()))?;
    terminal::print(&verified.findings.iter().map(line).collect::<String>());
    if !is_quiet {
        terminal::print(&format!(
            "{} documents, {} blobs and {} layers ({}): {}\n",
            verified.documents,
            verified.blobs,
            verified.layers,
            human::size(i64::try_from(verified.bytes).unwrap_or(i64::MAX)),
            match verified.findings.len() {
                0 => "all as they should be".to_owned(),
                1 => "1 finding".to_owned(),
                many => format!("{many} findings"),
            }
        ));
        // Documents come with every pull anyway.
        if verified.findings.iter().any(|finding| finding.kind != "document") {
            terminal::print("what is damaged is marked: the next pull of its image brings it again\n");
        }
    }
    Ok(u8::from(!verified.findings.is_empty()))
}

fn line(finding: &Finding) -> String {
    let Finding { kind, digest, images, problem } = finding;
    let images = if images.is_empty() { "no image".to_owned() } else { images.join(", ") };
    format!("{kind} {digest} ({images}): {problem}\n")
}
