import io
import time

import pytest
from minio.error import S3Error
from minio.notificationconfig import NotificationConfig, PrefixFilterRule, QueueConfig

from okiba.adapters.s3_admin import S3Admin
from okiba.core.binding import Binding
from okiba.core.errors import InvalidParameter, NotFound, StoreUnavailable
from okiba.core.function import Statement
from okiba.core.notification import KNOWN_EVENTS, LANES
from okiba.core.s3_policy import KNOWN_ACTIONS, StoreUser, s3_policy
from tests.integration.s3.conftest import TOKEN, Heard, client
from tests.servers import free_port, minio

CREATED, REMOVED = "s3:ObjectCreated:*", "s3:ObjectRemoved:*"
CRUD = [
    "s3:GetObject",
    "s3:ListBucket",
    "s3:GetBucketLocation",
    "s3:GetObjectVersion",
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:GetLifecycleConfiguration",
    "s3:PutLifecycleConfiguration",
    "s3:DeleteObject",
]


def put(store, bucket, key, content=b"x"):
    store.put_object(bucket, key, io.BytesIO(content), len(content))


def heard_within(receiver, expected, seconds=15):
    deadline = time.monotonic() + seconds
    while not expected <= set(receiver.heard) and time.monotonic() < deadline:
        time.sleep(0.05)
    return expected <= set(receiver.heard)


# --- buckets and their rules ------------------------------------------------------------------------------------------


def test_a_bucket_is_made_once(admin, root):
    admin.ensure_bucket("made-twice")
    admin.ensure_bucket("made-twice")
    assert root.bucket_exists("made-twice")
    assert "made-twice" in admin.buckets()


@pytest.mark.parametrize("name", ["ab", "UPPER", "with_underscore", "x" * 64, "../etc", "a..b", ""])
def test_a_name_that_no_bucket_can_have_is_refused(admin, name):
    with pytest.raises(InvalidParameter):
        admin.ensure_bucket(name)


def test_an_object_is_announced_over_both_lanes_with_the_token(admin, root, receiver):
    admin.ensure_bucket("announced")
    assert admin.announce("announced", [Binding("Upload", "announced", (CREATED,))]) is True
    put(root, "announced", "photo one.jpg")
    expected = {Heard(lane, f"Bearer {TOKEN}", "photo+one.jpg") for lane in LANES}
    assert heard_within(receiver, expected)


def test_announcing_the_same_again_is_no_change(admin):
    admin.ensure_bucket("unchanged")
    bindings = [Binding("Upload", "unchanged", (REMOVED, CREATED), prefix="in box/", suffix=".jpg")]
    assert [admin.announce("unchanged", bindings), admin.announce("unchanged", bindings)] == [True, False]


def test_a_bucket_that_is_only_added_to_goes_on_announcing_what_it_did(admin):
    admin.ensure_bucket("added-to")
    admin.announce("added-to", [Binding("Upload", "added-to", (REMOVED,), prefix="in/")])
    assert admin.announce("added-to", [Binding("Upload", "added-to", (CREATED,))], only_add=True) is True
    assert {(frozenset(rule.events), rule.prefix) for rule in admin.rules("added-to")} == {
        (frozenset((CREATED, REMOVED)), None)
    }
    assert admin.announce("added-to", [], only_add=True) is False


def test_rules_of_others_survive_whatever_functions_do(admin, root):
    admin.ensure_bucket("shared")
    theirs = QueueConfig(
        queue=LANES["queued"], events=[REMOVED], config_id="theirs", prefix_filter_rule=PrefixFilterRule("ü & <logs>/")
    )
    root.set_bucket_notification("shared", NotificationConfig(queue_config_list=[theirs]))
    before = admin.rules("shared")
    admin.announce("shared", [Binding("Upload", "shared", (CREATED,))])
    assert [rule.id for rule in admin.rules("shared")] == ["theirs", "okiba-direct", "okiba-queued"]
    admin.announce("shared", [])
    assert admin.rules("shared") == before


def test_a_filter_with_unusual_characters_lets_the_right_keys_through(admin, root, receiver):
    admin.ensure_bucket("filtered")
    admin.announce("filtered", [Binding("Upload", "filtered", (CREATED,), prefix="Bilder für/a+b%/", suffix=".ü")])
    put(root, "filtered", "Bilder für/other.ü")
    put(root, "filtered", "Bilder für/a+b%/x.ü")
    key = "Bilder+f%C3%BCr%2Fa%2Bb%25%2Fx.%C3%BC"
    assert heard_within(receiver, {Heard(lane, f"Bearer {TOKEN}", key) for lane in LANES})
    assert not [heard for heard in receiver.heard if "other" in heard.key]


def test_every_kind_of_event_that_okiba_knows_is_one_that_minio_knows(admin):
    admin.ensure_bucket("all-kinds")
    for kind in sorted(KNOWN_EVENTS):
        admin.announce("all-kinds", [Binding("Upload", "all-kinds", (kind,))])


def test_announcing_a_bucket_that_is_not_there_says_so(admin):
    with pytest.raises(NotFound):
        admin.announce("not-there", [Binding("Upload", "not-there", (CREATED,))])


def test_a_minio_without_okibas_targets_is_named_as_the_reason(tmp_path):
    with minio(tmp_path) as bare:
        admin = S3Admin(bare.endpoint, bare.access_key, bare.secret_key)
        admin.ensure_bucket("photos")
        with pytest.raises(StoreUnavailable, match="does not know Okiba's webhook targets"):
            admin.announce("photos", [Binding("Upload", "photos", (CREATED,))])


def test_a_store_that_is_away_is_unavailable_within_the_deadline():
    admin = S3Admin(f"http://127.0.0.1:{free_port()}", "nobody", "nobody-at-all")
    begun = time.monotonic()
    for call in (admin.buckets, admin.users, lambda: admin.ensure_bucket("photos")):
        with pytest.raises(StoreUnavailable):
            call()
    assert time.monotonic() - begun < 10


# --- users ------------------------------------------------------------------------------------------------------------


def allowed(store, access_key, secret, bucket):
    """What a user can do in a bucket: read, write, both or nothing; or that its keys are no good."""
    user = client(store, access_key, secret)
    done = []
    for name, attempt in (
        ("write", lambda: put(user, bucket, "by-user")),
        ("read", lambda: user.get_object(bucket, "there").close()),
    ):
        try:
            attempt()
            done.append(name)
        except S3Error as error:
            if error.code != "AccessDenied":
                return error.code
    return " ".join(done)


def resources(bucket):
    return (f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*")


@pytest.fixture(scope="module")
def buckets(admin, root):
    for bucket in ("mine", "not-mine"):
        admin.ensure_bucket(bucket)
        put(root, bucket, "there")


def test_a_functions_user_may_do_what_its_statements_say_and_nothing_else(admin, store, buckets):
    user = StoreUser("crud", "OKIACRUD")
    admin.ensure_user(user, "secret-of-crud", s3_policy([Statement(tuple(CRUD), resources("mine"))]))
    assert allowed(store, "OKIACRUD", "secret-of-crud", "mine") == "write read"
    assert allowed(store, "OKIACRUD", "secret-of-crud", "not-mine") == ""


def test_a_policy_that_changed_takes_the_place_of_the_old_one(admin, store, buckets):
    user = StoreUser("changing", "OKIACHANGING")
    admin.ensure_user(user, "secret-of-it", s3_policy([Statement(("s3:*",), resources("mine"))]))
    admin.ensure_user(user, "secret-of-it", s3_policy([Statement(("s3:GetObject",), resources("mine"))]))
    assert allowed(store, "OKIACHANGING", "secret-of-it", "mine") == "read"


def test_a_function_without_statements_has_a_user_that_may_do_nothing(admin, store, buckets):
    admin.ensure_user(StoreUser("idle", "OKIAIDLE"), "secret-of-idle", s3_policy([]))
    assert allowed(store, "OKIAIDLE", "secret-of-idle", "mine") == ""


def test_a_function_that_may_do_everything_may_do_nothing_in_the_platforms_own_bucket(admin, root, store, buckets):
    admin.ensure_bucket("okiba")
    put(root, "okiba", "there")
    user = StoreUser("mighty", "OKIAMIGHTY")
    admin.ensure_user(user, "secret-of-mighty", s3_policy([Statement(("s3:*",), ("*",))]))
    assert allowed(store, "OKIAMIGHTY", "secret-of-mighty", "mine") == "write read"
    assert allowed(store, "OKIAMIGHTY", "secret-of-mighty", "okiba") == ""
    with pytest.raises(S3Error, match="AccessDenied"):
        list(client(store, "OKIAMIGHTY", "secret-of-mighty").list_objects("okiba"))


def test_a_new_secret_makes_the_old_one_worthless(admin, store, buckets):
    user, policy = StoreUser("rotating", "OKIAROTATING"), s3_policy([Statement(("s3:*",), resources("mine"))])
    admin.ensure_user(user, "the-old-secret", policy)
    admin.ensure_user(user, "the-new-secret", policy)
    assert allowed(store, "OKIAROTATING", "the-old-secret", "mine") == "SignatureDoesNotMatch"
    assert allowed(store, "OKIAROTATING", "the-new-secret", "mine") == "write read"


def test_a_controller_that_was_started_anew_keeps_users_as_they_are(admin, store, buckets):
    user, policy = StoreUser("lasting", "OKIALASTING"), s3_policy([Statement(("s3:*",), resources("mine"))])
    admin.ensure_user(user, "a-lasting-secret", policy)
    S3Admin(store.endpoint, store.access_key, store.secret_key).ensure_user(user, "a-lasting-secret", policy)
    assert allowed(store, "OKIALASTING", "a-lasting-secret", "mine") == "write read"


def test_a_disabled_user_may_do_nothing_until_it_is_enabled(admin, store, buckets):
    user, policy = StoreUser("switched", "OKIASWITCHED"), s3_policy([Statement(("s3:*",), resources("mine"))])
    admin.ensure_user(user, "secret-of-it", policy, enabled=False)
    assert allowed(store, "OKIASWITCHED", "secret-of-it", "mine") == "InvalidAccessKeyId"
    admin.ensure_user(user, "secret-of-it", policy)
    assert allowed(store, "OKIASWITCHED", "secret-of-it", "mine") == "write read"


def test_a_user_whose_policy_someone_removed_gets_it_back(admin, store, buckets):
    user, policy = StoreUser("robbed", "OKIAROBBED"), s3_policy([Statement(("s3:*",), resources("mine"))])
    admin.ensure_user(user, "secret-of-it", policy)
    admin._admin.policy_unset(user.policy, user=user.access_key)
    admin.ensure_user(user, "secret-of-it", policy)
    assert allowed(store, "OKIAROBBED", "secret-of-it", "mine") == "write read"


def test_removing_a_user_leaves_neither_it_nor_its_policy_and_may_be_repeated(admin, store, buckets):
    user = StoreUser("leaving", "OKIALEAVING")
    admin.ensure_user(user, "secret-of-it", s3_policy([]))
    assert user in admin.users()
    admin.remove_user(user)
    admin.remove_user(user)
    assert user not in admin.users()
    assert allowed(store, "OKIALEAVING", "secret-of-it", "mine") == "InvalidAccessKeyId"


@pytest.mark.parametrize(("key", "secret"), [("ab", "long-enough"), ("OKIASHORT", "short")])
def test_keys_that_minio_does_not_take_are_refused(admin, key, secret):
    with pytest.raises(InvalidParameter):
        admin.ensure_user(StoreUser("bad", key), secret, s3_policy([]))


def test_every_action_that_okiba_knows_is_one_that_minio_knows(admin):
    user = StoreUser("everything", "OKIAEVERYTHING")
    admin.ensure_user(user, "secret-of-it", s3_policy([Statement(tuple(KNOWN_ACTIONS), resources("mine"))]))
