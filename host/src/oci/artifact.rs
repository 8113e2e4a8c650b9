//! What a policy is in a registry: an OCI image manifest (image specification 1.1) with one layer, the component, in the form of the
//! CNCF's "Wasm OCI Artifact layout" (tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::digest;
use crate::objects::reference::Digest;

/// The manifest.
pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// What makes it a Wasm artifact, and names its type.
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// A component.
const LAYER_TYPE: &str = "application/wasm";
/// What is asked for. With lists of manifests among it, so that one is recognised for what it is, rather than reported as missing.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A policy as it is pushed: three blobs, of which the manifest names the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    pub(super) manifest: Bytes,
    pub(super) config: Bytes,
    pub(super) component: Bytes,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    artifact_type: &'a str,
    config: Descriptor<'a>,
    layers: [Descriptor<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: String,
    size: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: &'a str,
    architecture: &'a str,
    os: &'a str,
    layer_digests: [String; 1],
    component: World<'a>,
}

#[derive(Serialize)]
struct World<'a> {
    exports: &'a [String],
    imports: &'a [String],
}

/// The layout wants a time. This one, so that an artifact's digest depends on its component and on nothing else.
const CREATED: &str = "1970-01-01T00:00:00Z";

impl Artifact {
    /// An artifact of a component that has these exports and imports.
    ///
    /// # Errors
    /// None that is known: of the serializer.
    pub fn of_component(component: Bytes, exports: &[String], imports: &[String]) -> Result<Self, serde_json::Error> {
        let layer = digest(&component).to_string();
        // `wasip2` is the layout's word for a component, whether or not it imports WASI.
        let world = World { exports, imports };
        let config = Config { created: CREATED, architecture: "wasm", os: "wasip2", layer_digests: [layer.clone()], component: world };
        let config = serde_json::to_vec(&config)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST_TYPE,
            artifact_type: CONFIG_TYPE,
            config: Descriptor { media_type: CONFIG_TYPE, digest: digest(&config).to_string(), size: config.len() },
            layers: [Descriptor { media_type: LAYER_TYPE, digest: layer, size: component.len() }],
        };
        Ok(Self { manifest: serde_json::to_vec(&manifest)?.into(), config: config.into(), component })
    }

    /// By which it is pulled: the manifest's.
    pub fn digest(&self) -> Digest {
        digest(&self.manifest)
    }
}

/// Where the component of a manifest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    schema_version: u32,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Vec<FoundLayer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundLayer {
    media_type: String,
    digest: String,
    size: u64,
}

/// Finds the component. What the config says is not asked: the component is looked at itself before it serves.
///
/// # Errors
/// What it is instead.
pub(super) fn component_of(manifest: &[u8]) -> Result<Layer, String> {
    let found: Found = serde_json::from_slice(manifest).map_err(|error| format!("its manifest cannot be read ({error})"))?;
    if found.schema_version != 2 {
        return Err(format!("its manifest has schema version {}, and 2 is known", found.schema_version));
    }
    if found.manifests.is_some() {
        return Err("it is an index of several images, and a policy is one artifact: name that one".to_owned());
    }
    let [layer] = found.layers.as_slice() else {
        return Err(format!("it has {} layers, and a policy has one, of type {LAYER_TYPE}", found.layers.len()));
    };
    if layer.media_type != LAYER_TYPE {
        let what = super::error::shown(&layer.media_type);
        return Err(format!("its layer is of type {what}, and a policy's is {LAYER_TYPE}: push it with `pointsman policy push`"));
    }
    let digest = layer.digest.parse().map_err(|error| format!("of its layer, {error}"))?;
    Ok(Layer { digest, bytes: layer.size })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::{Value, json};

    use super::*;

    fn artifact() -> Artifact {
        Artifact::of_component(Bytes::from_static(b"\0asm\x0d\0\x01\0"), &["a:b/c@0.1.0".to_owned()], &[]).unwrap()
    }

    /// Field by field from the layout, the image specification (manifest.md, "Image Manifest Property Descriptions") and sha256sum.
    #[test]
    fn an_artifact_has_the_layout_that_other_tools_read() {
        let artifact = artifact();
        let manifest: Value = serde_json::from_slice(&artifact.manifest).unwrap();
        let component = "sha256:24eaf3439a60c96764c4f2c92a0a81b52bd4fe5d5b91f090184a0f6486b1bf29";
        let wanted = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.wasm.config.v0+json",
            "config": {
                "mediaType": "application/vnd.wasm.config.v0+json",
                "digest": digest(&artifact.config).to_string(),
                "size": artifact.config.len(),
            },
            "layers": [{"mediaType": "application/wasm", "digest": component, "size": 8}],
        });
        assert_eq!(manifest, wanted);
        let config: Value = serde_json::from_slice(&artifact.config).unwrap();
        let wanted = json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [component],
            "component": {"exports": ["a:b/c@0.1.0"], "imports": []},
        });
        assert_eq!(config, wanted);
    }

    #[test]
    fn what_was_made_is_found_again_and_always_the_same() {
        let made = artifact();
        let layer = component_of(&made.manifest).unwrap();
        assert_eq!(layer, Layer { digest: digest(&made.component), bytes: 8 });
        assert_eq!(made, artifact());
    }

    #[test]
    fn what_is_no_policy_is_said_to_be_what_it_is() {
        let layer = |media_type: &str| json!({"mediaType": media_type, "digest": digest(b"").to_string(), "size": 0});
        let cases = [
            (json!({"schemaVersion": 1}), "schema version 1"),
            (json!({"schemaVersion": 2, "manifests": []}), "index of several images"),
            (json!({"schemaVersion": 2}), "0 layers"),
            (json!({"schemaVersion": 2, "layers": [layer(LAYER_TYPE), layer(LAYER_TYPE)]}), "2 layers"),
            (json!({"schemaVersion": 2, "layers": [layer("application/vnd.oci.image.layer.v1.tar+gzip")]}), "tar+gzip"),
            (
                json!({"schemaVersion": 2, "layers": [{"mediaType": LAYER_TYPE, "digest": "sha512:00", "size": 0}]}),
                "not a digest that is known",
            ),
            (json!({"schemaVersion": 2, "layers": [{"mediaType": LAYER_TYPE, "digest": "", "size": -1}]}), "cannot be read"),
            (json!([]), "cannot be read"),
        ];
        for (manifest, words) in cases {
            let said = component_of(manifest.to_string().as_bytes()).unwrap_err();
            assert!(said.contains(words), "{manifest}: {said}");
        }
        assert!(component_of(b"<html>").is_err());
    }
}
