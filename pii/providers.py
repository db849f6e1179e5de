"""Keys and tokens of known providers: their documented prefixes, alphabets and lengths.

A rule is a literal keyword and a regular expression that is tried only where the keyword stands,
so a text without any keyword costs one substring search per keyword. Every quantifier is bounded:
the work is linear in the length of the text. Rules in `CONTEXT_RULES` have no prefix of their own;
there the keyword is the name of the setting and the value follows an assignment.
"""

from dataclasses import dataclass

_ALNUM = "[A-Za-z0-9]"
_WORD = "[A-Za-z0-9_-]"
_HEX = "[0-9a-f]"
UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_DIGITS = "0123456789"
_LOWER_HEX = "0123456789abcdef"
_ALNUM_CHARS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRule:
    """One form of key. The group `value`, where there is one, is the span; else the whole match."""

    name: str
    description: str
    keywords: tuple[str, ...]
    """The expression is tried where one of these literals stands."""
    regex: str
    label: str = "KEY"
    lead: str = ""
    """Characters that may stand between the start of the match and the keyword."""
    max_lead: int = 0
    """How many of them at most."""
    glued: bool = False
    """The match may begin inside a longer word: the keyword is a name, not part of the value."""


def _token(name: str, owner: str, regex: str, *keywords: str) -> TokenRule:
    return TokenRule(name=name, description=owner, keywords=keywords, regex=regex)


def _led(name: str, owner: str, regex: str, keyword: str, *, lead: str, max_lead: int) -> TokenRule:
    return TokenRule(
        name=name,
        description=owner,
        keywords=(keyword,),
        regex=regex,
        lead=lead,
        max_lead=max_lead,
    )


PREFIX_RULES: tuple[TokenRule, ...] = (
    # Cloud providers
    _token(
        "aws-access-key-id",
        "AWS access key id (long-term, temporary, bearer, context)",
        "(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}",
        "AKIA",
        "ASIA",
        "ABIA",
        "ACCA",
    ),
    _token(
        "aws-session-token",
        "AWS session token of STS",
        "(?:FwoG|IQoJ)[A-Za-z0-9+/]{100,2000}={0,2}",
        "FwoG",
        "IQoJ",
    ),
    _token("aws-mws-token", "Amazon MWS authorisation token", f"amzn\\.mws\\.{UUID}", "amzn.mws."),
    _token("aws-bedrock-key", "Amazon Bedrock API key", "ABSK[A-Za-z0-9+/]{109,269}={0,2}", "ABSK"),
    _token(
        "azure-storage-key",
        "Azure storage or Cosmos account key in a connection string",
        "AccountKey=(?P<value>[A-Za-z0-9+/]{86}==)",
        "AccountKey=",
    ),
    _token(
        "azure-shared-access-key",
        "Azure service bus, event hub or IoT hub shared access key",
        "SharedAccessKey=(?P<value>[A-Za-z0-9+/]{43}=)",
        "SharedAccessKey=",
    ),
    _token(
        "azure-sas-signature",
        "Signature of an Azure shared access URL",
        "sig=(?P<value>[A-Za-z0-9%]{43,63}%3[dD])",
        "sig=",
    ),
    _led(
        "azure-client-secret",
        "Client secret of Microsoft Entra",
        "[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}",
        "Q~",
        lead=_ALNUM_CHARS + "_~.-",
        max_lead=4,
    ),
    _led(
        "azure-devops-token",
        "Personal access token of Azure DevOps",
        f"{_ALNUM}{{76}}AZDO{_ALNUM}{{4}}",
        "AZDO",
        lead=_ALNUM_CHARS,
        max_lead=76,
    ),
    _token("google-api-key", "Google API key", f"AIza{_WORD}{{35}}", "AIza"),
    _token(
        "google-client-secret", "Google OAuth client secret", f"GOCSPX-{_WORD}{{28}}", "GOCSPX-"
    ),
    _token(
        "google-access-token", "Google OAuth access token", f"ya29\\.{_WORD}{{20,1024}}", "ya29."
    ),
    _token("google-refresh-token", "Google OAuth refresh token", f"1//0{_WORD}{{40,120}}", "1//0"),
    _token("alibaba-access-key", "Alibaba Cloud access key id", f"LTAI{_ALNUM}{{20}}", "LTAI"),
    _token("tencent-secret-id", "Tencent Cloud secret id", f"AKID{_ALNUM}{{32}}", "AKID"),
    _token("yandex-api-key", "Yandex Cloud API key", f"AQVN{_WORD}{{35,38}}", "AQVN"),
    _token(
        "digitalocean-token",
        "DigitalOcean personal, OAuth or refresh token",
        f"do[pro]_v1_{_HEX}{{64}}",
        "dop_v1_",
        "doo_v1_",
        "dor_v1_",
    ),
    _token("heroku-key", "Heroku API key", f"HRKU-(?:{UUID}|AA{_WORD}{{58}})", "HRKU-"),
    _token(
        "fly-token",
        "Fly.io macaroon token",
        "fm[12][ar]?_[A-Za-z0-9+/]{100,2000}={0,3}",
        "fm2_",
        "fm1",
    ),
    _token("render-key", "Render API key", f"rnd_{_ALNUM}{{32}}", "rnd_"),
    _token(
        "vercel-blob-token",
        "Vercel blob store token",
        f"vercel_blob_rw_{_ALNUM}{{16}}_{_ALNUM}{{30,48}}",
        "vercel_blob_rw_",
    ),
    _token("netlify-token", "Netlify personal access token", f"nfp_{_ALNUM}{{36}}", "nfp_"),
    _token("supabase-token", "Supabase access token", f"sbp_(?:v0_)?{_HEX}{{40}}", "sbp_"),
    _token("supabase-secret-key", "Supabase secret key", f"sb_secret_{_WORD}{{31}}", "sb_secret_"),
    _token("neon-key", "Neon API key", "napi_[a-z0-9]{64}", "napi_"),
    _token(
        "planetscale-secret",
        "PlanetScale token, OAuth token or password",
        "pscale_(?:tkn|oauth|pw)_[A-Za-z0-9_.=-]{32,64}",
        "pscale_",
    ),
    TokenRule(
        name="aiven-password",
        description="Service password of Aiven",
        keywords=("AVNS_",),
        regex=f"AVNS_{_WORD}{{19}}",
        label="PASSWORD",
    ),
    _token(
        "cloudflare-origin-key",
        "Cloudflare origin CA key",
        f"v1\\.0-{_HEX}{{24}}-{_HEX}{{146}}",
        "v1.0-",
    ),
    _token(
        "databricks-token",
        "Databricks personal access token",
        f"dapi{_HEX}{{32}}(?:-[0-9]{{1,2}})?",
        "dapi",
    ),
    _token(
        "vault-service-token", "HashiCorp Vault service token", f"hvs\\.{_WORD}{{24,160}}", "hvs."
    ),
    _token("vault-batch-token", "HashiCorp Vault batch token", f"hvb\\.{_WORD}{{138,300}}", "hvb."),
    _led(
        "terraform-token",
        "Terraform Cloud or Enterprise token",
        f"{_ALNUM}{{14}}\\.atlasv1\\.[A-Za-z0-9_=-]{{60,70}}",
        ".atlasv1.",
        lead=_ALNUM_CHARS,
        max_lead=14,
    ),
    _token("pulumi-token", "Pulumi access token", f"pul-{_HEX}{{40}}", "pul-"),
    _token("infracost-key", "Infracost API key", f"ico-{_ALNUM}{{32}}", "ico-"),
    _token("scalingo-token", "Scalingo API token", f"tk-us-{_WORD}{{48}}", "tk-us-"),
    _token(
        "tailscale-key",
        "Tailscale auth, API, client or webhook key",
        f"tskey-[a-z]{{3,10}}-{_ALNUM}{{11,17}}(?:CNTRL)?-{_ALNUM}{{32}}",
        "tskey-",
    ),
    _token(
        "doppler-token",
        "Doppler personal, service, CLI, SCIM or audit token",
        f"dp\\.(?:pt|st|ct|sa|scim|audit)\\.(?:[a-z0-9_-]{{2,35}}\\.)?{_ALNUM}{{40,44}}",
        "dp.pt.",
        "dp.st.",
        "dp.ct.",
        "dp.sa.",
        "dp.scim.",
        "dp.audit.",
    ),
    _token(
        "onepassword-service-token",
        "1Password service account token",
        "ops_eyJ[A-Za-z0-9+/_-]{250,2000}={0,3}",
        "ops_eyJ",
    ),
    _token(
        "launchdarkly-key", "LaunchDarkly SDK or API key", f"(?:sdk|api)-{UUID}", "sdk-", "api-"
    ),
    _token(
        "dynatrace-token",
        "Dynatrace API token",
        "dt0[a-z][0-9]{2}\\.[A-Z0-9]{24}\\.[A-Z0-9]{64}",
        "dt0",
    ),
    _token(
        "newrelic-key",
        "New Relic user, insert, query or browser key",
        "(?:NRAK-[A-Z0-9]{27}|NRI[IQ]-[A-Za-z0-9_-]{32}|NRJS-[0-9a-f]{19}|NRRA-[0-9a-f]{42})",
        "NRAK-",
        "NRII-",
        "NRIQ-",
        "NRJS-",
        "NRRA-",
    ),
    _led(
        "newrelic-license-key",
        "New Relic ingest licence key",
        f"{_HEX}{{36}}NRAL",
        "NRAL",
        lead=_LOWER_HEX,
        max_lead=36,
    ),
    _token(
        "grafana-service-token",
        "Grafana service account token",
        f"glsa_{_ALNUM}{{32}}_[0-9A-Fa-f]{{8}}",
        "glsa_",
    ),
    _token(
        "grafana-cloud-token",
        "Grafana Cloud access policy token",
        "glc_eyJ[A-Za-z0-9+/]{29,400}={0,2}",
        "glc_eyJ",
    ),
    _token(
        "honeycomb-key",
        "Honeycomb ingest key",
        "hc[abx]i[kc]_[a-z0-9]{58}",
        "hcaik_",
        "hcaic_",
        "hcbik_",
        "hcxik_",
    ),
    _token(
        "sentry-org-token",
        "Sentry organisation token",
        "sntrys_eyJ[A-Za-z0-9+/=_-]{40,500}",
        "sntrys_eyJ",
    ),
    TokenRule(
        name="sentry-dsn",
        description="Key of a Sentry project in its address",
        keywords=("@o", "@sentry"),
        regex=f"(?P<value>{_HEX}{{32}})(?::{_HEX}{{32}})?@(?:o[0-9]{{1,12}}\\.|sentry)[A-Za-z0-9.-]{{2,60}}/[0-9]{{1,20}}",
        lead=_LOWER_HEX + ":",
        max_lead=65,
    ),
    _token("sentry-user-token", "Sentry user token", f"sntryu_{_HEX}{{64}}", "sntryu_"),
    # Source hosting, packages, continuous integration
    _token(
        "github-personal-token",
        "GitHub personal access token (classic)",
        f"ghp_{_ALNUM}{{36}}",
        "ghp_",
    ),
    _token("github-oauth-token", "GitHub OAuth access token", f"gho_{_ALNUM}{{36}}", "gho_"),
    _token(
        "github-app-user-token", "GitHub app user-to-server token", f"ghu_{_ALNUM}{{36}}", "ghu_"
    ),
    _token(
        "github-app-server-token",
        "GitHub app server-to-server token",
        f"ghs_{_ALNUM}{{36}}",
        "ghs_",
    ),
    _token(
        "github-refresh-token",
        "GitHub refresh token",
        f"ghr_(?:{_ALNUM}{{36}}|{_ALNUM}{{76}})",
        "ghr_",
    ),
    _token(
        "github-fine-grained-token",
        "GitHub fine-grained personal access token",
        f"github_pat_{_ALNUM}{{22}}_{_ALNUM}{{59}}",
        "github_pat_",
    ),
    _token(
        "gitlab-personal-token",
        "GitLab personal, group or project access token",
        f"glpat-(?:{_WORD}{{20}}|{_WORD}{{27,300}}\\.[0-9a-z]{{2}}(?:\\.[0-9a-z]{{2}})?[0-9a-z]{{7}})",
        "glpat-",
    ),
    _token("gitlab-deploy-token", "GitLab deploy token", f"gldt-{_WORD}{{20}}", "gldt-"),
    _token(
        "gitlab-runner-token",
        "GitLab runner authentication token",
        f"glrt-(?:t[0-9]_)?{_WORD}{{20}}",
        "glrt-",
    ),
    _token(
        "gitlab-trigger-token", "GitLab pipeline trigger token", f"glptt-{_HEX}{{40}}", "glptt-"
    ),
    _token(
        "gitlab-job-token",
        "GitLab CI job token",
        f"glcbt-[0-9a-zA-Z]{{1,5}}_{_WORD}{{20}}",
        "glcbt-",
    ),
    _token("gitlab-feed-token", "GitLab feed token", f"glft-{_WORD}{{20}}", "glft-"),
    _token("gitlab-scim-token", "GitLab SCIM token", f"glsoat-{_WORD}{{20}}", "glsoat-"),
    _token("gitlab-mail-token", "GitLab incoming mail token", f"glimt-{_WORD}{{25}}", "glimt-"),
    _token(
        "gitlab-agent-token",
        "GitLab agent for Kubernetes token",
        f"glagent-{_WORD}{{50}}",
        "glagent-",
    ),
    _token("bitbucket-app-password", "Bitbucket app password", f"ATBB{_ALNUM}{{32}}", "ATBB"),
    _token(
        "atlassian-token",
        "Atlassian API token",
        "AT[AC]TT3[A-Za-z0-9_=-]{60,250}",
        "ATATT3",
        "ATCTT3",
    ),
    _token("trello-token", "Trello token", f"ATTA{_HEX}{{64,72}}", "ATTA"),
    _token("npm-token", "npm access token", f"npm_{_ALNUM}{{36}}", "npm_"),
    _token(
        "pypi-token",
        "PyPI or TestPyPI upload token",
        f"pypi-Ag(?:EIcHlwaS5vcmc|ENdGVzdC5weXBpLm9yZw){_WORD}{{50,1000}}",
        "pypi-Ag",
    ),
    _token("rubygems-key", "RubyGems API key", f"rubygems_{_HEX}{{48}}", "rubygems_"),
    _token("cratesio-token", "crates.io API token", f"cio{_ALNUM}{{32}}", "cio"),
    _token("nuget-key", "NuGet API key", "oy2[a-z0-9]{43}", "oy2"),
    _token("clojars-token", "Clojars deploy token", "CLOJARS_[a-z0-9]{60}", "CLOJARS_"),
    _token("artifactory-key", "JFrog Artifactory API key", f"AKCp{_ALNUM}{{69}}", "AKCp"),
    _token(
        "artifactory-reference-token",
        "JFrog Artifactory reference token",
        f"cmVmdGtu{_ALNUM}{{56}}",
        "cmVmdGtu",
    ),
    _token(
        "docker-hub-token",
        "Docker Hub personal or organisation access token",
        f"dckr_(?:pat_{_WORD}{{27}}|oat_{_WORD}{{32}})",
        "dckr_pat_",
        "dckr_oat_",
    ),
    _token(
        "circleci-token",
        "CircleCI personal or project token",
        f"CCI(?:PAT|PRJ)_{_ALNUM}{{22}}_{_HEX}{{40}}",
        "CCIPAT_",
        "CCIPRJ_",
    ),
    _token("buildkite-token", "Buildkite user access token", f"bkua_{_HEX}{{40}}", "bkua_"),
    _token(
        "sonarqube-token",
        "SonarQube user, project or global token",
        f"sq[upa]_{_HEX}{{40}}",
        "squ_",
        "sqp_",
        "sqa_",
    ),
    _token(
        "sourcegraph-token",
        "Sourcegraph access token",
        f"sgp_(?:(?:{_HEX}{{16}}|local)_)?{_HEX}{{40}}",
        "sgp_",
    ),
    _token("readme-key", "ReadMe API key", "rdme_[a-z0-9]{70}", "rdme_"),
    _token("postman-key", "Postman API key", f"PMAK-{_HEX}{{24}}-{_HEX}{{34}}", "PMAK-"),
    _token("prefect-key", "Prefect API key", f"pn[ub]_{_ALNUM}{{36}}", "pnu_", "pnb_"),
    _token("deno-token", "Deno Deploy token", f"dd[pwo]_{_ALNUM}{{36}}", "ddp_", "ddw_", "ddo_"),
    _token("wakatime-key", "WakaTime API key", f"waka_{UUID}", "waka_"),
    # Models
    _led(
        "openai-legacy-key",
        "OpenAI API key (legacy form)",
        f"sk-{_ALNUM}{{20}}T3BlbkFJ{_ALNUM}{{20}}",
        "T3BlbkFJ",
        lead=_ALNUM_CHARS + "-",
        max_lead=23,
    ),
    _token(
        "openai-key",
        "OpenAI project, service account or admin key",
        f"sk-(?:proj|svcacct|admin)-{_WORD}{{40,200}}",
        "sk-proj-",
        "sk-svcacct-",
        "sk-admin-",
    ),
    _token(
        "anthropic-key",
        "Anthropic API, admin or OAuth key",
        f"sk-ant-[a-z]{{3,8}}[0-9]{{2}}-{_WORD}{{40,200}}",
        "sk-ant-",
    ),
    _token("openrouter-key", "OpenRouter API key", f"sk-or-v1-{_HEX}{{64}}", "sk-or-v1-"),
    _token("deepseek-key", "DeepSeek API key", f"sk-{_HEX}{{32}}", "sk-"),
    _token("huggingface-token", "Hugging Face user access token", "hf_[A-Za-z]{34}", "hf_"),
    _token(
        "huggingface-org-token",
        "Hugging Face organisation token",
        "api_org_[A-Za-z]{34}",
        "api_org_",
    ),
    _token("replicate-token", "Replicate API token", f"r8_{_ALNUM}{{37}}", "r8_"),
    _token("groq-key", "Groq API key", f"gsk_{_ALNUM}{{52}}", "gsk_"),
    _token("perplexity-key", "Perplexity API key", f"pplx-{_ALNUM}{{48}}", "pplx-"),
    _token("xai-key", "xAI API key", f"xai-{_ALNUM}{{80}}", "xai-"),
    _token("nvidia-key", "NVIDIA API key", f"nvapi-{_WORD}{{64}}", "nvapi-"),
    _token(
        "langsmith-key",
        "LangSmith personal or service key",
        f"lsv2_(?:pt|sk)_{_HEX}{{32}}_{_HEX}{{10}}",
        "lsv2_",
    ),
    _token("elevenlabs-key", "ElevenLabs API key", f"sk_{_HEX}{{48}}", "sk_"),
    # Messages and mail
    _token(
        "slack-bot-token",
        "Slack bot token",
        f"xoxb-[0-9]{{10,13}}-(?:[0-9]{{10,13}}-)?{_ALNUM}{{16,40}}",
        "xoxb-",
    ),
    _token(
        "slack-user-token",
        "Slack user, workspace or refresh token",
        f"xox[pars]-(?:[0-9]{{10,13}}-){{1,3}}{_ALNUM}{{16,64}}",
        "xoxp-",
        "xoxa-",
        "xoxr-",
        "xoxs-",
    ),
    _token(
        "slack-config-token",
        "Slack configuration token",
        "xoxe\\.?(?:xox[bp]-)?[0-9-]{1,3}-?[A-Za-z0-9]{140,200}",
        "xoxe",
    ),
    _token(
        "slack-app-token",
        "Slack app-level token",
        f"xapp-[0-9]-[A-Z0-9]{{9,13}}-[0-9]{{10,15}}-{_HEX}{{64}}",
        "xapp-",
    ),
    _token(
        "slack-webhook",
        "Path of a Slack incoming webhook",
        f"hooks\\.slack\\.com/(?:services|workflows|triggers)/(?P<value>[TE][A-Z0-9]{{8,12}}/[A-Z0-9]{{8,14}}/{_ALNUM}{{23,32}})",
        "hooks.slack.com/",
    ),
    _token(
        "badge-token",
        "Token in the address of a badge, such as Codecov's",
        f"badge\\.svg\\?token=(?P<value>{_ALNUM}{{10,64}})",
        "badge.svg?token=",
    ),
    _token(
        "discord-webhook",
        "Token of a Discord webhook",
        f"(?:discord|discordapp)\\.com/api/(?:v[0-9]{{1,2}}/)?webhooks/[0-9]{{17,20}}/(?P<value>{_WORD}{{60,68}})",
        "discord.com/api/",
        "discordapp.com/api/",
    ),
    _token(
        "teams-webhook",
        "Path of a Microsoft Teams incoming webhook",
        f"IncomingWebhook/(?P<value>{_HEX}{{32}}/{UUID})",
        "IncomingWebhook/",
    ),
    _token(
        "zapier-webhook",
        "Path of a Zapier webhook",
        f"hooks\\.zapier\\.com/hooks/catch/(?P<value>[0-9]{{5,9}}/{_ALNUM}{{6,8}})",
        "hooks.zapier.com/",
    ),
    _led(
        "telegram-bot-token",
        "Telegram bot token",
        f"[0-9]{{8,10}}:AA{_WORD}{{33}}",
        ":AA",
        lead=_DIGITS,
        max_lead=10,
    ),
    _token("sendgrid-key", "SendGrid API key", f"SG\\.{_WORD}{{22}}\\.{_WORD}{{43}}", "SG."),
    _token("twilio-api-key", "Twilio API key", f"SK{_HEX}{{32}}", "SK"),
    _token("mailgun-key", "Mailgun API key", f"key-{_HEX}{{32}}", "key-"),
    _led(
        "mailchimp-key",
        "Mailchimp API key",
        f"{_HEX}{{32}}-us[0-9]{{1,2}}",
        "-us",
        lead=_LOWER_HEX,
        max_lead=32,
    ),
    _token(
        "brevo-key",
        "Brevo (Sendinblue) API key",
        f"xkeysib-{_HEX}{{64}}-{_ALNUM}{{16}}",
        "xkeysib-",
    ),
    _token("resend-key", "Resend API key", f"re_{_ALNUM}{{8}}_{_ALNUM}{{24}}", "re_"),
    _token("intercom-token", "Intercom access token", "dG9rO[A-Za-z0-9+/]{54}=", "dG9rO"),
    _token("dingtalk-secret", "DingTalk robot signing secret", f"SEC{_HEX}{{64}}", "SEC"),
    # Payments and shops
    _token(
        "stripe-secret-key",
        "Stripe secret key, live or test",
        f"sk_(?:live|test)_{_ALNUM}{{16,247}}",
        "sk_live_",
        "sk_test_",
    ),
    _token(
        "stripe-restricted-key",
        "Stripe restricted key, live or test",
        f"rk_(?:live|test)_{_ALNUM}{{16,247}}",
        "rk_live_",
        "rk_test_",
    ),
    _token(
        "stripe-webhook-secret",
        "Stripe or Svix webhook signing secret",
        "whsec_[A-Za-z0-9+/]{24,64}={0,2}",
        "whsec_",
    ),
    _token("square-production-token", "Square access token", f"EAAA[El]{_WORD}{{59}}", "EAAA"),
    _token("square-access-token", "Square access token", f"sq0atp-{_WORD}{{22}}", "sq0atp-"),
    _token("square-secret", "Square OAuth secret", f"sq0csp-{_WORD}{{43}}", "sq0csp-"),
    _token(
        "shopify-token",
        "Shopify admin, custom app, private app token or shared secret",
        "shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
        "shpat_",
        "shpca_",
        "shppa_",
        "shpss_",
    ),
    _token(
        "braintree-token",
        "PayPal Braintree access token",
        f"access_token\\$(?:production|sandbox)\\$[0-9a-z]{{16}}\\${_HEX}{{32}}",
        "access_token$",
    ),
    _token(
        "razorpay-key",
        "Razorpay key id",
        f"rzp_(?:live|test)_{_ALNUM}{{14}}",
        "rzp_live_",
        "rzp_test_",
    ),
    _token(
        "flutterwave-key",
        "Flutterwave secret key",
        "FLWSECK(?:_TEST)?-[0-9a-zA-Z]{12,32}(?:-X)?",
        "FLWSECK",
    ),
    _token(
        "plaid-token",
        "Plaid access token",
        f"access-(?:sandbox|development|production)-{UUID}",
        "access-sandbox-",
        "access-development-",
        "access-production-",
    ),
    _token(
        "mercadopago-token",
        "Mercado Pago access token",
        f"APP_USR-[0-9]{{16}}-[0-9]{{6}}-{_HEX}{{32}}-[0-9]{{6,10}}",
        "APP_USR-",
    ),
    _token("easypost-key", "EasyPost live or test key", f"EZ[AT]K{_ALNUM}{{54}}", "EZAK", "EZTK"),
    _token("shippo-token", "Shippo API token", f"shippo_(?:live|test)_{_HEX}{{40}}", "shippo_"),
    _token(
        "duffel-token", "Duffel API token", "duffel_(?:live|test)_[A-Za-z0-9_=-]{43}", "duffel_"
    ),
    # Services
    _token(
        "airtable-token",
        "Airtable personal access token",
        f"pat{_ALNUM}{{14}}\\.{_HEX}{{64}}",
        "pat",
    ),
    _token(
        "asana-token",
        "Asana personal access token",
        f"[12]/1[0-9]{{15}}(?:/[0-9]{{16}})?:{_HEX}{{32}}",
        "1/1",
        "2/1",
    ),
    _token(
        "figma-token",
        "Figma personal access token",
        f"fig[dour]_{_WORD}{{40,43}}",
        "figd_",
        "figo_",
        "figu_",
        "figr_",
    ),
    _token(
        "linear-key",
        "Linear API key or OAuth token",
        f"lin_(?:api_{_ALNUM}{{40}}|oauth_{_HEX}{{64}})",
        "lin_api_",
        "lin_oauth_",
    ),
    _token(
        "notion-token",
        "Notion integration token",
        f"(?:secret_{_ALNUM}{{43}}|ntn_[0-9]{{11}}{_ALNUM}{{35}})",
        "secret_",
        "ntn_",
    ),
    _token(
        "dropbox-token",
        "Dropbox short-lived access token",
        f"sl\\.(?:u\\.)?{_WORD}{{130,2000}}",
        "sl.",
    ),
    _token(
        "facebook-token",
        "Facebook or Instagram access token",
        f"EAA[A-Za-z]{_ALNUM}{{90,400}}",
        "EAA",
    ),
    _token(
        "twitter-bearer-token",
        "Twitter (X) app bearer token",
        "A{21}(?=[A-Za-z0-9]{0,40}%)[A-Za-z0-9%]{80,120}",
        "A" * 21,
    ),
    _token(
        "hubspot-token",
        "HubSpot private app token",
        f"pat-(?:na|eu|ap)[0-9]-{UUID}",
        "pat-na",
        "pat-eu",
        "pat-ap",
    ),
    _token("klaviyo-key", "Klaviyo private key", f"pk_{_HEX}{{34}}", "pk_"),
    _token(
        "mapbox-secret-token",
        "Mapbox secret token",
        f"sk\\.eyJ{_WORD}{{40,200}}\\.{_WORD}{{22}}",
        "sk.eyJ",
    ),
    _token(
        "contentful-token", "Contentful personal access token", f"CFPAT-{_WORD}{{43}}", "CFPAT-"
    ),
    _token("typeform-token", "Typeform personal access token", "tfp_[A-Za-z0-9_.=-]{59}", "tfp_"),
    _token("frameio-token", "Frame.io developer token", "fio-u-[A-Za-z0-9_=-]{64}", "fio-u-"),
    _token("adafruit-key", "Adafruit IO key", f"aio_{_ALNUM}{{28}}", "aio_"),
    _token("adobe-client-secret", "Adobe OAuth client secret", f"p8e-{_WORD}{{32}}", "p8e-"),
    _token(
        "okta-token",
        "Okta API token in an SSWS header",
        f"SSWS (?P<value>00{_WORD}{{40}})",
        "SSWS ",
    ),
    # Private keys with a form of their own
    _token(
        "age-secret-key",
        "age identity",
        "AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}",
        "AGE-SECRET-KEY-1",
    ),
    _token(
        "nostr-secret-key",
        "Nostr secret key",
        "nsec1[qpzry9x8gf2tvdw0s3jn54khce6mua7l]{58}",
        "nsec1",
    ),
    _token(
        "bip32-private-key",
        "Extended private key of a hierarchical wallet",
        "[xt]prv[1-9A-HJ-NP-Za-km-z]{107,108}",
        "xprv",
        "tprv",
    ),
)
"""Keys that are recognised by their own prefix."""


_ASSIGN = "[\"'\\]]{0,2}\\s{0,4}(?::=|=>|[:=,]|\\s)\\s{0,4}[\"'`]?"


def _setting(name: str, owner: str, names: tuple[str, ...], value: str) -> TokenRule:
    """A key without a prefix, recognised by the setting it is assigned to."""
    joined = "|".join(sorted(names, key=len, reverse=True))
    return TokenRule(
        name=name,
        description=owner,
        keywords=names,
        regex=f"(?:{joined}){_ASSIGN}(?P<value>{value})",
        glued=True,
    )


CONTEXT_RULES: tuple[TokenRule, ...] = (
    _setting(
        "aws-secret-access-key",
        "AWS secret access key beside its name",
        (
            "secret_access_key",
            "SECRET_ACCESS_KEY",
            "secretAccessKey",
            "SecretAccessKey",
            "aws_secret_key",
            "AWS_SECRET_KEY",
        ),
        "[A-Za-z0-9/+]{40}",
    ),
    _setting(
        "heroku-api-key",
        "Heroku API key (a UUID) beside its name",
        ("HEROKU_API_KEY", "heroku_api_key"),
        UUID,
    ),
    _setting(
        "twilio-auth-token",
        "Twilio auth token beside its name",
        ("TWILIO_AUTH_TOKEN", "twilio_auth_token"),
        f"{_HEX}{{32}}",
    ),
    _setting(
        "cloudflare-token",
        "Cloudflare API token or global key beside its name",
        (
            "CLOUDFLARE_API_TOKEN",
            "CF_API_TOKEN",
            "CLOUDFLARE_API_KEY",
            "CF_API_KEY",
            "cloudflare_api_token",
        ),
        f"(?:{_HEX}{{37}}|{_WORD}{{40}})",
    ),
    _setting(
        "fastly-token",
        "Fastly API token beside its name",
        ("FASTLY_API_TOKEN", "FASTLY_API_KEY", "fastly_api_key", "Fastly-Key"),
        f"{_WORD}{{32}}",
    ),
    _setting(
        "datadog-key",
        "Datadog API or application key beside its name",
        ("DD_API_KEY", "DD_APP_KEY", "DATADOG_API_KEY", "DATADOG_APP_KEY", "datadog_api_key"),
        f"(?:{_HEX}{{40}}|{_HEX}{{32}})",
    ),
    _setting(
        "vercel-token",
        "Vercel access token beside its name",
        ("VERCEL_TOKEN", "vercel_token"),
        f"{_ALNUM}{{24}}",
    ),
    _setting(
        "wandb-key", "Weights & Biases API key beside its name", ("WANDB_API_KEY",), f"{_HEX}{{40}}"
    ),
    _setting(
        "algolia-admin-key",
        "Algolia admin key beside its name",
        ("ALGOLIA_ADMIN_KEY", "ALGOLIA_API_KEY", "algolia_api_key"),
        f"{_HEX}{{32}}",
    ),
    _setting(
        "npmrc-auth-token",
        "Registry token in an .npmrc line",
        (":_authToken",),
        f"{_WORD}{{20,200}}",
    ),
    _setting(
        "discord-bot-token",
        "Discord bot token beside its name",
        ("DISCORD_TOKEN", "BOT_TOKEN", "discord_token", "bot_token", "botToken", "Authorization"),
        f"(?:Bot )?[MNO]{_WORD}{{23,27}}\\.{_WORD}{{6}}\\.{_WORD}{{27,38}}",
    ),
    _setting(
        "django-secret-key",
        "Secret key of a Django project",
        ("SECRET_KEY",),
        "(?:django-insecure-)?[a-z0-9!@#$%^&*(_=+)-]{50}",
    ),
    TokenRule(
        name="jwk-secret",
        description="Secret part of a JSON web key: k of a symmetric key, d of a private one",
        keywords=('"k"', '"d"'),
        regex=f'"[kd]"\\s{{0,2}}:\\s{{0,2}}"(?P<value>{_WORD}{{22,1400}})',
        glued=True,
    ),
    _setting(
        "wireguard-key",
        "WireGuard private or pre-shared key",
        ("PrivateKey", "PresharedKey", "PreSharedKey"),
        "[A-Za-z0-9+/]{43}=",
    ),
)
"""Keys that are recognised by the name of the setting they are assigned to."""
