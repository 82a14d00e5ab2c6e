//! Looking for repositories: in a registry that can be searched, and in the catalog of one that cannot.

mod support;

use registry::Credentials;
use support::client;
use support::fake::{Fake, Reply};
use support::image::image;
use support::reference::Registry;

#[tokio::test]
async fn the_catalog_stands_for_a_search() {
    let registry = Registry::start();
    let store = support::TestStore::new();
    let fake = Fake::serve(image(1, 1, 1000), |_| None).await;
    let id = support::pull(&fake.name("a"), &store.store).await.0.unwrap().image_id;
    for path in ["team/tool:1", "team/other:1", "toolbox:2"] {
        let name = registry.name(path);
        store.store.image_tag(&name.parse().unwrap(), &id).unwrap();
        support::push(&name, &store.store).await.0.unwrap();
    }
    let search = async |term: &str, limit| {
        let found = client().search(&registry.name(term), limit, &Credentials::Anonymous).await.unwrap();
        found.into_iter().map(|hit| hit.name).collect::<Vec<_>>()
    };
    assert_eq!(search("tool", 25).await, [registry.name("team/tool"), registry.name("toolbox")]);
    assert_eq!(search("tool", 1).await, [registry.name("team/tool")]);
    assert_eq!(search("none", 25).await, [""; 0]);
}

#[tokio::test]
async fn a_registry_that_can_be_searched() {
    let fake = Fake::serve(image(1, 1, 10), |request| {
        let found = r#"{"num_results":2,"query":"x","results":[
            {"name":"x","description":"the\nfirst","star_count":7,"is_official":true,"is_automated":false},
            {"name":"y/x","star_count":0}]}"#;
        (request.line() == "GET /v1/search?q=x&n=5").then(|| Reply::json(200, found))
    })
    .await;
    let found = client().search(&fake.name("x"), 5, &Credentials::Anonymous).await.unwrap();
    assert_eq!((found[0].name.as_str(), found[0].star_count, found[0].is_official), (&*fake.name("x"), 7, true));
    assert_eq!((found.len(), found[1].description.as_str()), (2, ""));

    let fake = Fake::serve(image(1, 1, 10), |request| {
        request.line().starts_with("GET /v1/search").then(|| Reply::json(200, "<html>"))
    })
    .await;
    let error = client().search(&fake.name("x"), 5, &Credentials::Anonymous).await.unwrap_err().to_string();
    assert!(error.ends_with("invalid character '<' looking for beginning of value"), "{error}");
}
