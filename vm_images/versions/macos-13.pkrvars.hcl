# Shared by all templates; each takes the values it knows.
macos = "13"
# Pin it by digest (ghcr.io/…@sha256:…) for builds that must be repeatable; the tag moves about monthly.
base_image = "ghcr.io/cirruslabs/macos-ventura-vanilla:latest"
# Whether csrutil in Recovery asks "Authorized user:" before it asks for the password.
recovery_asks_user = false
