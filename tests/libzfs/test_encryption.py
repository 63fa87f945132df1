"""Keys of encrypted datasets of a real pool."""

import errno
import os

import pytest

from backends import libzfs

E = libzfs.Error
KEY = b"\n\0\xff" + bytes(29)
# As few rounds as ZFS allows: each takes its time where the processor is emulated.
PASSPHRASE = {"keyformat": "passphrase", "keylocation": "prompt", "pbkdf2iters": "100000"}


@pytest.fixture
def secret(zfs, dataset):
    """An encrypted filesystem with a key that is asked for."""
    name = f"{dataset.name}/secret"
    dataset.pool.create(name, {"encryption": "on", "keyformat": "raw", "key": KEY})
    return zfs.get_dataset(name)


def test_a_key_is_loaded_checked_and_forgotten(secret):
    assert (secret.encrypted, secret.key_loaded, secret.key_location) == (True, True, "prompt")
    assert secret.encryption_root == secret
    secret.unload_key()
    assert not secret.key_loaded
    assert secret.check_key(key=KEY)
    assert not secret.check_key(key=bytes(32))
    assert not secret.key_loaded
    with pytest.raises(libzfs.ZFSException) as caught:
        secret.load_key(key=bytes(32))
    assert caught.value.code is E.CRYPTO_FAILED
    with pytest.raises(libzfs.ZFSException) as caught:
        secret.mount()
    assert caught.value.code is E.MOUNTFAILED
    secret.load_key(key=KEY)
    secret.mount()
    assert secret.mountpoint
    with pytest.raises(libzfs.ZFSException) as caught:
        secret.unload_key()
    assert caught.value.code is E.CRYPTO_FAILED


def test_a_child_shares_its_parent_s_key(zfs, secret):
    secret.pool.create(f"{secret.name}/child", {})
    child = zfs.get_dataset(f"{secret.name}/child")
    assert child.encryption_root == secret
    assert child.asdict()["encryption_root"] == secret.name


def test_a_raw_key_in_a_file(zfs, dataset, tmp_path):
    key = tmp_path / "key file"
    key.write_bytes(os.urandom(32))
    options = {"encryption": "aes-256-gcm", "keyformat": "raw", "keylocation": f"file://{key}"}
    dataset.pool.create(f"{dataset.name}/raw", options)
    raw = zfs.get_dataset(f"{dataset.name}/raw")
    raw.unload_key()
    raw.load_key()
    raw.unload_key()
    raw.load_key(key_location=str(key))
    assert raw.key_loaded


def test_keys_of_a_whole_subtree(zfs, dataset, secret, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    options = {"encryption": "on", "keyformat": "raw", "keylocation": f"file://{key}"}
    dataset.pool.create(f"{dataset.name}/raw", options)
    dataset.unload_key(recursive=True)
    raw = zfs.get_dataset(f"{dataset.name}/raw")
    assert not raw.key_loaded
    assert not zfs.get_dataset(secret.name).key_loaded
    dataset.load_key(recursive=True)
    assert zfs.get_dataset(raw.name).key_loaded
    # A key that must be asked for is left out.
    assert not zfs.get_dataset(secret.name).key_loaded


def test_a_key_is_changed_and_inherited(zfs, secret):
    secret.change_key(PASSPHRASE, key="correct horse battery staple")
    secret.unload_key()
    assert not secret.check_key(key="another horse")
    secret.load_key(key="correct horse battery staple")
    options = {"encryption": "on", "keyformat": "raw", "key": KEY}
    secret.pool.create(f"{secret.name}/own", options)
    own = zfs.get_dataset(f"{secret.name}/own")
    assert own.encryption_root == own
    own.change_key(inherit=True)
    assert own.encryption_root == secret


def test_arguments_that_do_not_go_together(zfs, dataset, secret):
    wrong = [
        lambda: secret.load_key(),
        lambda: secret.load_key(key="a", key_location="b"),
        lambda: secret.load_key(recursive=True, key="a"),
        lambda: secret.change_key({"atime": "on"}),
        lambda: secret.change_key({"keylocation": "prompt"}),
        lambda: secret.change_key(key="a"),
        lambda: secret.change_key({"keyformat": "raw"}, inherit=True),
        lambda: dataset.change_key({"keyformat": "raw"}),
        lambda: dataset.pool.create(f"{dataset.name}/x", {"encryption": "on"}),
    ]
    for call in wrong:
        with pytest.raises(libzfs.ZFSException) as caught:
            call()
        assert caught.value.code == errno.EINVAL


def test_a_key_that_is_too_short_makes_nothing(dataset):
    with pytest.raises(libzfs.ZFSException) as caught:
        options = {"encryption": "on", "keyformat": "passphrase", "key": "short"}
        dataset.pool.create(f"{dataset.name}/x", options)
    assert caught.value.code is E.CRYPTO_FAILED
    assert list(dataset.children) == []
