"""Documents as tools write them, of images of a file or two, byte for byte."""

# umoci 0.4.7: `init`, `new`, `raw add-layer`.
UMOCI_CONFIG = b"""{"created":"2026-11-21T12:19:03.224925834Z","architecture":"amd64","os":"linux",\
"config":{},"rootfs":{"type":"layers","diff_ids":[\
"sha256:aaac445fb32e34d2e71d0cd7f2a90f0490600f06c60571a4ccf0010b74df9445"]},\
"history":[{"created":"2026-11-21T12:19:03.233202513Z","created_by":"umoci raw add-layer"}]}"""
UMOCI_MANIFEST = b"""{"schemaVersion":2,"config":{"mediaType":\
"application/vnd.oci.image.config.v1+json","digest":\
"sha256:1d9fc48535d821c72995d62db319da2c961373bf4e24dad3f5ac6b80d814375c","size":299},"layers":[{\
"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":\
"sha256:9001dca7cb7b44799a5ce896ed10d485c3cc1baf91c5616bd8573929a6b27522","size":116}]}"""
UMOCI_INDEX = b"""{"schemaVersion":2,"manifests":[{"mediaType":\
"application/vnd.oci.image.manifest.v1+json","digest":\
"sha256:9b6e7566148364cb2146dac185835c2935d44ce1007091df197647d8de44680f","size":345,\
"annotations":{"org.opencontainers.image.ref.name":"base"}},{"mediaType":\
"application/vnd.oci.image.manifest.v1+json","digest":\
"sha256:9b6e7566148364cb2146dac185835c2935d44ce1007091df197647d8de44680f","size":345,\
"annotations":{"org.opencontainers.image.ref.name":"v2"}}]}"""
# Podman 4.3.1, `save --format oci-archive`.
PODMAN_MANIFEST = b"""{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",\
"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":\
"sha256:65cc8e2237e5221cfdefc963d3b5f47c8e296982e5e1d724bf22caff647c50c6","size":551},"layers":[{\
"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":\
"sha256:9001dca7cb7b44799a5ce896ed10d485c3cc1baf91c5616bd8573929a6b27522","size":116}]}"""
# Docker 20.10.24, `save` of an image and of one committed on it.
DOCKER_MANIFEST = b"""[{"Config":\
"5538755e2ab8397fc7d74256f493ac08250726fc21419996f1a1a0f44824e38c.json","RepoTags":["a.test/x:1"],\
"Layers":["f5db0ce83cca1901b04ba7794e9cad1964b94d6b06a1400439dc3ef44cd38935/layer.tar"]},{"Config":\
"2cbdcd4e1fc6be37611b99239c166b9c0a2c95fe93d645b0680e5c1f4408a004.json","RepoTags":["a.test/x:2",\
"y:latest"],"Layers":["d853e8da7f86fee52c8a2ff7056a24b46e60ca9f75ed73cb11e7162c68f2d46c/layer.tar",\
"4c2aaf0411083a96e3174b0ae8a420bbba629f2f2505d5737cbfd49986a6873b/layer.tar"],"Parent":\
"sha256:5538755e2ab8397fc7d74256f493ac08250726fc21419996f1a1a0f44824e38c"}]
"""
DOCKER_REPOSITORIES = b"""{"a.test/x":{\
"1":"f5db0ce83cca1901b04ba7794e9cad1964b94d6b06a1400439dc3ef44cd38935",\
"2":"4c2aaf0411083a96e3174b0ae8a420bbba629f2f2505d5737cbfd49986a6873b"},\
"y":{"latest":"4c2aaf0411083a96e3174b0ae8a420bbba629f2f2505d5737cbfd49986a6873b"}}
"""
# skopeo 1.9.3 writes null for what it does not know.
SKOPEO_LEGACY = b"""{"architecture":"amd64","config":{},"container":null,"container_config":null,\
"created":"2026-11-21T12:19:03.224925834Z","docker_version":null,\
"id":"18c8233d76e56b04bfcfdda8b02d960ada5cae55f7b0a90ae49a8f781d873beb","os":"linux"}"""
# The form before Docker 1.10, with what an importer may stumble over.
LEGACY_BASE = """{"id":"BASE","created":"2015-11-20T10:00:00.12Z","container_config":{"Cmd":[\
"/bin/sh","-c","#(nop) ADD file:<x> in /"]},"docker_version":"1.9.1","config":{"Cmd":null},\
"architecture":"amd64","os":"linux","Size":5}""".replace("BASE", "a" * 64).encode()
LEGACY_TOP = (
    """{"id":"TOP","parent":"BASE","created":"2015-11-20T10:00:01.5Z","container":"c1",\
"container_config":{"Cmd":["/bin/sh", "-c", "x & y"]},"docker_version":"1.9.1","author":\
"A <a@b>","config":{"Cmd":["/bin/sh"], "Env" : ["A=é\\u003c"], "Zed":1.50},"architecture":\
"amd64","os":"linux","Size":5,"odd":[1, 2, "<"]}""".replace("BASE", "a" * 64)
    .replace("TOP", "b" * 64)
    .encode()
)
