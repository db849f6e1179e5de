"""Tokens are built from the form each provider documents, written down here a second time."""

import random
import string

import pytest

from pii.patterns import RULES, find_patterns
from pii.providers import CONTEXT_RULES, PREFIX_RULES

ALNUM = string.ascii_letters + string.digits
WORD = ALNUM + "-_"
HEX = "0123456789abcdef"
LOWER = string.ascii_lowercase + string.digits
UPPER = string.ascii_uppercase + string.digits
BASE64 = ALNUM + "+/"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
UUID = [(HEX, 8), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 12)]

# One row per rule: literals and (alphabet, length) pairs. Literals that would make a complete
# token prefix in this file are split, so that no push scanner takes the table for keys.
FORMS = {
    "aws-access-key-id": ["AKIA", (UPPER, 16)],
    "aws-session-token": ["IQoJ", (BASE64, 160), "=="],
    "aws-mws-token": ["amzn.mws.", *UUID],
    "aws-bedrock-key": ["ABSK", (BASE64, 128)],
    "azure-storage-key": ["AccountName=demo;AccountKey=", {"value": [(BASE64, 86), "=="]}],
    "azure-shared-access-key": ["SharedAccessKey=", {"value": [(BASE64, 43), "="]}],
    "azure-sas-signature": ["?sv=2022-11-02&sig=", {"value": [(ALNUM, 43), "%3D"]}],
    "azure-client-secret": [(ALNUM, 3), "8Q~", (ALNUM, 34)],
    "azure-devops-token": [(ALNUM, 76), "AZDO", (ALNUM, 4)],
    "google-api-key": ["AIza", (WORD, 34), (ALNUM, 1)],
    "google-client-secret": ["GOCSPX-", (WORD, 27), (ALNUM, 1)],
    "google-access-token": ["ya29.", (ALNUM, 120)],
    "google-refresh-token": ["1//0", (ALNUM, 60)],
    "alibaba-access-key": ["LTAI", (ALNUM, 20)],
    "tencent-secret-id": ["AKID", (ALNUM, 32)],
    "yandex-api-key": ["AQVN", (WORD, 34), (ALNUM, 1)],
    "digitalocean-token": ["dop_v1_", (HEX, 64)],
    "heroku-key": ["HRKU-AA", (WORD, 57), (ALNUM, 1)],
    "fly-token": ["fm2_", (BASE64, 300)],
    "render-key": ["rnd_", (ALNUM, 32)],
    "vercel-blob-token": ["vercel_blob_rw_", (ALNUM, 16), "_", (ALNUM, 30)],
    "netlify-token": ["nfp_", (ALNUM, 36)],
    "supabase-token": ["sbp_", (HEX, 40)],
    "supabase-secret-key": ["sb_secret_", (WORD, 30), (ALNUM, 1)],
    "neon-key": ["napi_", (LOWER, 64)],
    "planetscale-secret": ["pscale_tkn_", (ALNUM, 43)],
    "aiven-password": ["AVNS_", (WORD, 18), (ALNUM, 1)],
    "cloudflare-origin-key": ["v1.0-", (HEX, 24), "-", (HEX, 146)],
    "databricks-token": ["dapi", (HEX, 32)],
    "vault-service-token": ["hvs.", (ALNUM, 95)],
    "vault-batch-token": ["hvb.", (ALNUM, 150)],
    "terraform-token": [(ALNUM, 14), ".atlasv1.", (ALNUM, 67)],
    "pulumi-token": ["pul-", (HEX, 40)],
    "infracost-key": ["ico-", (ALNUM, 32)],
    "scalingo-token": ["tk-us-", (WORD, 47), (ALNUM, 1)],
    "tailscale-key": ["tskey-auth-", (ALNUM, 12), "CNTRL-", (ALNUM, 32)],
    "doppler-token": ["dp.pt.", (ALNUM, 43)],
    "onepassword-service-token": ["ops_eyJ", (BASE64, 400)],
    "launchdarkly-key": ["sdk-", *UUID],
    "dynatrace-token": ["dt0c01.", (UPPER, 24), ".", (UPPER, 64)],
    "newrelic-key": ["NRAK-", (UPPER, 27)],
    "grafana-service-token": ["glsa_", (ALNUM, 32), "_", (HEX, 8)],
    "grafana-cloud-token": ["glc_eyJ", (ALNUM, 120)],
    "honeycomb-key": ["hcaik_", (LOWER, 58)],
    "sentry-org-token": ["sntrys_eyJ", (ALNUM, 120)],
    "sentry-user-token": ["sntryu_", (HEX, 64)],
    "github-personal-token": ["ghp_", (ALNUM, 36)],
    "github-oauth-token": ["gho_", (ALNUM, 36)],
    "github-app-user-token": ["ghu_", (ALNUM, 36)],
    "github-app-server-token": ["ghs_", (ALNUM, 36)],
    "github-refresh-token": ["ghr_", (ALNUM, 36)],
    "github-fine-grained-token": ["github_pat_", (ALNUM, 22), "_", (ALNUM, 59)],
    "gitlab-personal-token": ["glpat-", (WORD, 19), (ALNUM, 1)],
    "gitlab-deploy-token": ["gldt-", (WORD, 19), (ALNUM, 1)],
    "gitlab-runner-token": ["glrt-", (WORD, 19), (ALNUM, 1)],
    "gitlab-trigger-token": ["glptt-", (HEX, 40)],
    "gitlab-job-token": ["glcbt-", "64_", (WORD, 19), (ALNUM, 1)],
    "gitlab-feed-token": ["glft-", (WORD, 19), (ALNUM, 1)],
    "gitlab-scim-token": ["glsoat-", (WORD, 19), (ALNUM, 1)],
    "gitlab-mail-token": ["glimt-", (WORD, 24), (ALNUM, 1)],
    "gitlab-agent-token": ["glagent-", (WORD, 49), (ALNUM, 1)],
    "bitbucket-app-password": ["ATBB", (ALNUM, 32)],
    "atlassian-token": ["ATATT3", (WORD, 185), (ALNUM, 1)],
    "trello-token": ["ATTA", (HEX, 72)],
    "npm-token": ["npm_", (ALNUM, 36)],
    "pypi-token": ["pypi-AgEIcHlwaS5vcmc", (ALNUM, 150)],
    "rubygems-key": ["rubygems_", (HEX, 48)],
    "cratesio-token": ["cio", (ALNUM, 32)],
    "nuget-key": ["oy2", (LOWER, 43)],
    "clojars-token": ["CLOJARS_", (LOWER, 60)],
    "artifactory-key": ["AKCp", (ALNUM, 69)],
    "artifactory-reference-token": ["cmVmdGtu", (ALNUM, 56)],
    "docker-hub-token": ["dckr_pat_", (WORD, 26), (ALNUM, 1)],
    "circleci-token": ["CCIPAT_", (ALNUM, 22), "_", (HEX, 40)],
    "buildkite-token": ["bkua_", (HEX, 40)],
    "sonarqube-token": ["squ_", (HEX, 40)],
    "sourcegraph-token": ["sgp_", (HEX, 40)],
    "readme-key": ["rdme_", (LOWER, 70)],
    "postman-key": ["PMAK-", (HEX, 24), "-", (HEX, 34)],
    "prefect-key": ["pnu_", (ALNUM, 36)],
    "deno-token": ["ddp_", (ALNUM, 36)],
    "wakatime-key": ["waka_", *UUID],
    "openai-legacy-key": ["sk-", (ALNUM, 20), "T3BlbkFJ", (ALNUM, 20)],
    "openai-key": ["sk-proj-", (ALNUM, 156)],
    "anthropic-key": ["sk-ant-api03-", (WORD, 93), "AA"],
    "openrouter-key": ["sk-or-v1-", (HEX, 64)],
    "deepseek-key": ["sk-", (HEX, 32)],
    "huggingface-token": ["hf_", (string.ascii_letters, 34)],
    "huggingface-org-token": ["api_org_", (string.ascii_letters, 34)],
    "replicate-token": ["r8_", (ALNUM, 37)],
    "groq-key": ["gsk_", (ALNUM, 52)],
    "perplexity-key": ["pplx-", (ALNUM, 48)],
    "xai-key": ["xai-", (ALNUM, 80)],
    "nvidia-key": ["nvapi-", (WORD, 63), (ALNUM, 1)],
    "langsmith-key": ["lsv2_pt_", (HEX, 32), "_", (HEX, 10)],
    "elevenlabs-key": ["sk_", (HEX, 48)],
    "slack-bot-token": ["xoxb-", (string.digits, 12), "-", (string.digits, 12), "-", (ALNUM, 24)],
    "slack-user-token": [
        "xoxp-",
        (string.digits, 12),
        "-",
        (string.digits, 12),
        "-",
        (string.digits, 12),
        "-",
        (HEX, 32),
    ],
    "slack-config-token": ["xoxe.xoxp-1-", (ALNUM, 163)],
    "slack-app-token": ["xapp-1-", (UPPER, 11), "-", (string.digits, 13), "-", (HEX, 64)],
    "badge-token": ["/graph/badge.svg?token=", {"value": [(ALNUM, 10)]}],
    "slack-webhook": [
        "https://hooks.slack.com/services/",
        {"value": ["T", (UPPER, 8), "/B", (UPPER, 10), "/", (ALNUM, 24)]},
    ],
    "discord-webhook": [
        "https://discord.com/api/webhooks/",
        (string.digits, 18),
        "/",
        {"value": [(WORD, 67), (ALNUM, 1)]},
    ],
    "telegram-bot-token": ["5", (string.digits, 9), ":AA", (WORD, 32), (ALNUM, 1)],
    "sendgrid-key": ["SG.", (WORD, 22), ".", (WORD, 42), (ALNUM, 1)],
    "twilio-api-key": ["SK", (HEX, 32)],
    "mailgun-key": ["key-", (HEX, 32)],
    "mailchimp-key": [(HEX, 32), "-us12"],
    "brevo-key": ["xkeysib-", (HEX, 64), "-", (ALNUM, 16)],
    "resend-key": ["re_", (ALNUM, 8), "_", (ALNUM, 24)],
    "intercom-token": ["dG9rO", (ALNUM, 54), "="],
    "dingtalk-secret": ["SEC", (HEX, 64)],
    "stripe-secret-key": ["sk_live_", (ALNUM, 24)],
    "stripe-restricted-key": ["rk_live_", (ALNUM, 24)],
    "stripe-webhook-secret": ["whsec_", (ALNUM, 32)],
    "square-access-token": ["sq0atp-", (WORD, 21), (ALNUM, 1)],
    "square-secret": ["sq0csp-", (WORD, 42), (ALNUM, 1)],
    "shopify-token": ["shpat_", (HEX, 32)],
    "braintree-token": ["access_token$production$", (LOWER, 16), "$", (HEX, 32)],
    "razorpay-key": ["rzp_live_", (ALNUM, 14)],
    "flutterwave-key": ["FLWSECK_TEST-", (HEX, 12)],
    "plaid-token": ["access-sandbox-", *UUID],
    "mercadopago-token": [
        "APP_USR-",
        (string.digits, 16),
        "-",
        (string.digits, 6),
        "-",
        (HEX, 32),
        "-",
        (string.digits, 9),
    ],
    "easypost-key": ["EZAK", (ALNUM, 54)],
    "shippo-token": ["shippo_live_", (HEX, 40)],
    "duffel-token": ["duffel_test_", (WORD, 42), (ALNUM, 1)],
    "airtable-token": ["pat", (ALNUM, 14), ".", (HEX, 64)],
    "asana-token": ["1/1", (string.digits, 15), ":", (HEX, 32)],
    "figma-token": ["figd_", (WORD, 39), (ALNUM, 1)],
    "linear-key": ["lin_api_", (ALNUM, 40)],
    "notion-token": ["ntn_", (string.digits, 11), (ALNUM, 35)],
    "dropbox-token": ["sl.", (ALNUM, 140)],
    "facebook-token": ["EAAC", (ALNUM, 180)],
    "twitter-bearer-token": ["A" * 21, "L", (ALNUM, 12), "%2B", (ALNUM, 70)],
    "hubspot-token": ["pat-na1-", *UUID],
    "klaviyo-key": ["pk_", (HEX, 34)],
    "mapbox-secret-token": ["sk.eyJ", (ALNUM, 80), ".", (WORD, 21), (ALNUM, 1)],
    "contentful-token": ["CFPAT-", (WORD, 42), (ALNUM, 1)],
    "typeform-token": ["tfp_", (ALNUM, 44), "_", (ALNUM, 14)],
    "frameio-token": ["fio-u-", (WORD, 63), (ALNUM, 1)],
    "adafruit-key": ["aio_", (ALNUM, 28)],
    "adobe-client-secret": ["p8e-", (WORD, 31), (ALNUM, 1)],
    "okta-token": ["Authorization: SSWS ", {"value": ["00", (WORD, 39), (ALNUM, 1)]}],
    "age-secret-key": ["AGE-SECRET-KEY-1", (BECH32.upper(), 58)],
    "nostr-secret-key": ["nsec1", (BECH32, 58)],
    "bip32-private-key": ["xprv", (BASE58, 107)],
    "aws-secret-access-key": ["aws_secret_access_key = ", {"value": [(BASE64, 39), (ALNUM, 1)]}],
    "heroku-api-key": ["HEROKU_API_KEY=", {"value": UUID}],
    "twilio-auth-token": ['TWILIO_AUTH_TOKEN: "', {"value": [(HEX, 32)]}],
    "cloudflare-token": ["CLOUDFLARE_API_TOKEN=", {"value": [(WORD, 39), (ALNUM, 1)]}],
    "fastly-token": ["Fastly-Key: ", {"value": [(WORD, 31), (ALNUM, 1)]}],
    "datadog-key": ["DD_API_KEY=", {"value": [(HEX, 32)]}],
    "vercel-token": ["VERCEL_TOKEN=", {"value": [(ALNUM, 24)]}],
    "wandb-key": ["WANDB_API_KEY=", {"value": [(HEX, 40)]}],
    "algolia-admin-key": ['"ALGOLIA_ADMIN_KEY": "', {"value": [(HEX, 32)]}],
    "npmrc-auth-token": ["//registry.test/:_authToken=", {"value": [(ALNUM, 36)]}],
    "discord-bot-token": [
        "DISCORD_TOKEN=",
        {"value": ["MT", (WORD, 22), ".", (ALNUM, 6), ".", (WORD, 26), (ALNUM, 1)]},
    ],
    "django-secret-key": ["SECRET_KEY = '", {"value": [(LOWER, 50)]}],
    "jwk-secret": ['{"kty": "oct", "k": "', {"value": [(WORD, 42), (ALNUM, 1)]}],
    "teams-webhook": [
        "https://acme.webhook.office.com/webhookb2/x/IncomingWebhook/",
        {"value": [(HEX, 32), "/", *UUID]},
    ],
    "zapier-webhook": [
        "https://hooks.zapier.com/hooks/catch/",
        {"value": [(string.digits, 7), "/", (ALNUM, 6)]},
    ],
    "square-production-token": ["EAAAE", (WORD, 58), (ALNUM, 1)],
    "newrelic-license-key": [(HEX, 36), "NRAL"],
    "sentry-dsn": ["https://", {"value": [(HEX, 32)]}, "@o1234.ingest.sentry.io/5678"],
    "wireguard-key": ["PrivateKey = ", {"value": [(BASE64, 43), "="]}],
}
VARIABLE = {
    # Rules whose provider documents a range, or no length: the shortest that still counts.
    "aws-session-token": 100,
    "aws-bedrock-key": 109,
    "google-access-token": 20,
    "google-refresh-token": 40,
    "doppler-token": 40,
    "fly-token": 100,
    "planetscale-secret": 32,
    "vault-service-token": 24,
    "vault-batch-token": 138,
    "terraform-token": 60,
    "onepassword-service-token": 250,
    "grafana-cloud-token": 29,
    "sentry-org-token": 40,
    "atlassian-token": 59,
    "trello-token": 64,
    "pypi-token": 50,
    "openai-key": 40,
    "anthropic-key": 38,
    "slack-bot-token": 16,
    "slack-user-token": 16,
    "slack-config-token": 140,
    "stripe-secret-key": 16,
    "stripe-restricted-key": 16,
    "stripe-webhook-secret": 24,
    "dropbox-token": 130,
    "facebook-token": 90,
    "twitter-bearer-token": 64,
    "mapbox-secret-token": 40,
    "npmrc-auth-token": 20,
    "discord-webhook": 59,
    "vercel-blob-token": 30,
    "slack-webhook": 23,
    "azure-client-secret": 31,
    "azure-sas-signature": 43,
    "discord-bot-token": 26,
    "jwk-secret": 21,
    "zapier-webhook": 5,
}
BUILT = {rule.name: rule for rule in (*PREFIX_RULES, *CONTEXT_RULES)}
MANY = 5


def drawn(parts, rng, length, spoil):
    """Text of the parts; the longest random one gets `length`, and a foreign letter if spoiled."""
    random_parts = [part for part in parts if isinstance(part, tuple)]
    longest = max(random_parts, key=lambda part: part[1])
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        alphabet, size = part
        if part is longest:
            size, longest = (size if length is None else length), None
            made = "".join(rng.choices(alphabet, k=size))
            text += made[: size // 2] + "\u0416" + made[size // 2 + 1 :] if spoil else made
        else:
            text += "".join(rng.choices(alphabet, k=size))
    return text


def build(name, seed, *, length=None, spoil=False):
    """The text a form makes and the key in it."""
    rng = random.Random(f"{name} {seed}")
    text, key = "", None
    form = FORMS[name]
    valued = any(isinstance(part, dict) for part in form)
    if not valued:
        text = drawn(form, rng, length, spoil)
        return text, text
    for part in form:
        if isinstance(part, dict):
            key = drawn(part["value"], rng, length, spoil)
            text += key
        elif isinstance(part, str):
            text += part
        else:
            text += "".join(rng.choices(part[0], k=part[1]))
    return text, key


def random_length(name):
    """Length of the longest random part of a form."""
    parts = [
        inner
        for part in FORMS[name]
        for inner in (part["value"] if isinstance(part, dict) else [part])
        if isinstance(inner, tuple)
    ]
    if any(isinstance(part, dict) for part in FORMS[name]):
        parts = [
            inner
            for part in FORMS[name]
            if isinstance(part, dict)
            for inner in part["value"]
            if isinstance(inner, tuple)
        ]
    return max(size for _, size in parts)


def found_by(name, text):
    (rule,) = (rule for rule in RULES if rule.name == name)
    return [text[start:end] for start, end, _ in rule.find(text)]


def test_every_rule_has_a_documented_form_and_there_are_at_least_sixty_providers():
    assert set(FORMS) == set(BUILT)
    assert len(FORMS) == len(PREFIX_RULES) + len(CONTEXT_RULES)
    assert len({name.split("-")[0] for name in FORMS}) >= 60


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("around", ["{}", 'x = "{}"', "<a>{}</a>", "line\n{}\nline", r'"\n{}\n"'])
def test_a_key_of_the_documented_form_is_found_with_its_limits(name, around):
    for seed in range(MANY):
        text, key = build(name, seed)
        assert found_by(name, around.format(text)) == [key]


@pytest.mark.parametrize("name", FORMS)
def test_a_document_with_a_key_gets_a_span_of_its_label_over_all_of_it(name):
    text, key = build(name, 0)
    document = f"first line\n{text}\nlast line\n"
    start = document.index(key)

    covering = [
        span
        for span in find_patterns(document)
        if span.start <= start and span.end >= start + len(key)
    ]

    assert [span.label for span in covering] == [BUILT[name].label]


@pytest.mark.parametrize("name", FORMS)
def test_a_key_that_is_one_character_too_short_is_none(name):
    shortest = VARIABLE.get(name, random_length(name))
    for seed in range(MANY):
        text, _ = build(name, seed, length=shortest - 1)
        assert found_by(name, f'"{text}"') == []


@pytest.mark.parametrize("name", FORMS)
def test_a_letter_outside_the_alphabet_makes_it_no_key(name):
    shortest = VARIABLE.get(name, random_length(name))
    for seed in range(MANY):
        text, _ = build(name, seed, length=shortest, spoil=True)
        assert found_by(name, f'"{text}"') == []


@pytest.mark.parametrize("name", [rule.name for rule in PREFIX_RULES])
def test_a_key_glued_to_a_longer_word_is_none(name):
    valued = any(isinstance(part, dict) for part in FORMS[name])
    for seed in range(MANY):
        text, _ = build(name, seed)
        if not valued:
            assert found_by(name, f"word{text}") == []
            assert found_by(name, f"word_{text}") == []
        if name not in VARIABLE:
            assert found_by(name, f"{text}_word") == []
