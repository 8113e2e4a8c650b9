//! What comes, and what becomes of it.

use bytes::Bytes;
use hyper::Method;

use super::fake::{Fake, plain, store, with};
use super::*;
use crate::oci::digest;

#[tokio::test]
async fn a_tag_is_looked_up_and_what_it_stands_for_is_pulled_by_digest() {
    let artifact = artifact();
    let made = artifact.clone();
    let fake = Fake::new(move |_, seen| store(&made, seen)).await;
    let pulled = pull(&reference(fake.address, "team/p:1")).await.unwrap();
    assert_eq!(pulled.component, artifact.component);
    assert_eq!(pulled.reference.to_string(), format!("{}/team/p:1@{}", fake.address, artifact.digest()));
    let wanted = [
        "HEAD /v2/team/p/manifests/1".to_owned(),
        format!("GET /v2/team/p/manifests/{}", artifact.digest()),
        format!("GET /v2/team/p/blobs/{}", digest(&artifact.component)),
    ];
    assert_eq!(fake.lines(), wanted);
}

/// Some registries say no digest, and some proxies know no HEAD.
#[tokio::test]
async fn a_registry_that_says_no_digest_is_asked_for_the_manifest() {
    for status in [200, 405] {
        let artifact = artifact();
        let made = artifact.clone();
        let fake = Fake::new(move |_, seen| {
            let mut reply = store(&made, seen);
            reply.headers_mut().remove("docker-content-digest");
            if seen.method == Method::HEAD { plain(status, "") } else { reply }
        });
        let fake = fake.await;
        let pulled = pull(&reference(fake.address, "team/p:1")).await.unwrap();
        assert_eq!(pulled.reference.digest(), Some(artifact.digest()));
        assert_eq!(fake.lines()[1], "GET /v2/team/p/manifests/1");
    }
}

#[tokio::test]
async fn what_was_pulled_is_not_asked_for_again() {
    let artifact = artifact();
    let made = artifact.clone();
    let fake = Fake::new(move |_, seen| store(&made, seen)).await;
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let by_tag = reference(fake.address, "team/p:1");
    let by_digest = client(Logins::Nobody).pull(&by_tag, Some(&cache)).await.unwrap().reference;
    let asked = fake.lines().len();
    let pulled = client(Logins::Nobody).pull(&by_digest, Some(&cache)).await.unwrap();
    assert_eq!((pulled.component, fake.lines().len()), (artifact.component.clone(), asked), "by digest: nobody is asked");
    client(Logins::Nobody).pull(&by_tag, Some(&cache)).await.unwrap();
    assert_eq!(fake.lines()[asked..], ["HEAD /v2/team/p/manifests/1"], "by tag: whether it has moved");
    assert_eq!(client(Logins::Nobody).cached(&by_tag, &cache), None, "a tag may have moved");
    // A component that is too large for whoever asks does not come from the cache either.
    let strict = Client::new(Options { max_large_bytes: 4, ..options(Logins::Nobody) });
    assert_eq!(strict.cached(&by_digest, &cache), None);
}

#[tokio::test]
async fn what_has_another_digest_is_not_used() {
    let artifact = artifact();
    for altered in ["manifests/", "blobs/"] {
        let made = artifact.clone();
        let fake = Fake::new(move |_, seen| {
            let reply = store(&made, seen);
            if seen.method == Method::GET && seen.path.contains(altered) {
                let mut bytes = if altered == "blobs/" { made.component.to_vec() } else { made.manifest.to_vec() };
                bytes[5] ^= 1;
                return plain(200, bytes);
            }
            reply
        });
        let fake = fake.await;
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let pinned = reference(fake.address, "team/p:1").pinned(artifact.digest());
        let said = said(client(Logins::Nobody).pull(&pinned, Some(&cache)).await);
        assert!(said.contains("was altered: its digest is sha256:") && said.contains("it is not used"), "{altered}: {said}");
        assert_eq!(client(Logins::Nobody).cached(&pinned, &cache), None);
    }
}

/// Sizes are checked before anything is fetched, and again while it comes.
#[tokio::test]
async fn nothing_is_taken_beyond_its_size() {
    let large = Artifact::of_component(Bytes::from(vec![0; (1 << 20) + 1]), &[], &[]).unwrap();
    let made = large.clone();
    let fake = Fake::new(move |_, seen| store(&made, seen)).await;
    let text = said(pull(&reference(fake.address, "team/p:1")).await);
    assert!(text.contains("has 1048577 bytes, and at most 1048576 are taken; if it brings a language runtime along"), "{text}");
    assert!(text.ends_with(&format!("--large-policy {}/team/p:1", fake.address)), "{text}");
    assert!(!fake.lines().iter().any(|line| line.contains("blobs")), "and it was not asked for");

    let artifact = artifact();
    for (lie, limit) in [("manifests/sha256", 4 << 20), ("blobs/", artifact.component.len())] {
        let made = artifact.clone();
        let fake =
            Fake::new(move |_, seen| if seen.path.contains(lie) { plain(200, vec![b' '; limit + 1]) } else { store(&made, seen) }).await;
        let text = said(pull(&reference(fake.address, "team/p:1")).await);
        assert!(text.contains(&format!("has {} bytes, and at most {limit} are taken", limit + 1)), "{lie}: {text}");
    }
}

/// By the reference as it was written, from the registry and from the cache.
#[tokio::test]
async fn a_policy_with_a_runtime_may_be_larger() {
    let large = Artifact::of_component(Bytes::from(vec![0; 2 << 20]), &[], &[]).unwrap();
    let made = large.clone();
    let fake = Fake::new(move |_, seen| store(&made, seen)).await;
    let by_tag = reference(fake.address, "team/p:1");
    let pinned = by_tag.pinned(large.digest());
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let granted = |name: &Reference| Client::new(Options { large: [name.to_string()].into(), ..options(Logins::Nobody) });
    for _ in 0..2 {
        let pulled = granted(&by_tag).pull(&by_tag, Some(&cache)).await.unwrap();
        assert_eq!((pulled.component, &pulled.reference), (large.component.clone(), &pinned));
    }
    assert_eq!(fake.lines().iter().filter(|line| line.contains("blobs")).count(), 1, "the second came from the cache");
    assert_eq!(granted(&pinned).cached(&pinned, &cache).map(|pulled| pulled.component), Some(large.component));
    for cache in [None, Some(&cache)] {
        assert!(said(granted(&by_tag).pull(&pinned, cache).await).contains("at most 1048576 are taken"), "another name");
    }
}

#[tokio::test]
async fn failures_say_what_they_are() {
    let image =
        br#"{"schemaVersion": 2, "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "", "size": 0}]}"#;
    let index = br#"{"schemaVersion": 2, "manifests": []}"#;
    let made = artifact();
    let fake = Fake::new(move |_, seen| match seen.path.rsplit('/').next().unwrap() {
        "image" if seen.method == Method::HEAD => plain(200, ""),
        "image" => plain(200, &image[..]),
        "index" if seen.method == Method::HEAD => plain(200, ""),
        "index" => plain(200, &index[..]),
        "busy" => plain(503, "{\"errors\":[{\"code\":\"UNAVAILABLE\",\"message\":\"be\\u001b[31m back\\nsoon\"}]}"),
        "closed" => plain(403, r#"{"errors":[{"code":"DENIED","message":"requested access is denied"}]}"#),
        "round" => with(plain(307, ""), "location", "/v2/team/p/manifests/round"),
        _ => store(&made, seen),
    });
    let fake = fake.await;
    let cases = [
        ("team/p:nonesuch", "has no team/p:nonesuch: look"),
        ("team/p:nonesuch", "look at the name and the version"),
        ("team/p:image", "layer.v1.tar+gzip"),
        ("team/p:index", "index of several images"),
        ("team/p:busy", "503 Service Unavailable"),
        ("team/p:closed", "does not let us pull team/p: 403 Forbidden"),
        ("team/p:closed", "docker login 127.0.0.1:"),
        ("team/p:round", "more than 5 redirects"),
    ];
    for (rest, words) in cases {
        let said = said(pull(&reference(fake.address, rest)).await);
        assert!(said.contains(words) && !said.contains(char::is_control), "{rest}: {said}");
    }
}

#[tokio::test]
async fn a_manifest_without_its_component_is_said_so() {
    let made = artifact();
    let fake = Fake::new(move |_, seen| if seen.path.contains("blobs") { plain(404, "") } else { store(&made, seen) }).await;
    let said = said(pull(&reference(fake.address, "team/p:1")).await);
    assert!(said.starts_with(&format!("{0} has no component of {0}/team/p:1@sha256:", fake.address)), "{said}");
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let said = said(pull(&reference(gone, "team/p:1")).await);
    assert!(said.contains(&format!("{gone} cannot be reached: Connection refused")), "{said}");
}
