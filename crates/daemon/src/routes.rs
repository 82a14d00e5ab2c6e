//! The routes of the API, one module per resource: path, version and body become a call of the engine, its answer becomes JSON.

mod archive;
mod containers;
mod exec;
mod images;
mod networks;
mod refused;
mod streams;
mod system;
mod volumes;

use crate::router::Route;

/// Every route. Within a method the first that fits is taken, so literal addresses stand before those with a name.
pub(crate) const TABLES: &[&[Route]] = &[
    system::ROUTES,
    containers::ROUTES,
    streams::ROUTES,
    exec::ROUTES,
    archive::ROUTES,
    images::ROUTES,
    volumes::ROUTES,
    networks::ROUTES,
    refused::ROUTES,
];
