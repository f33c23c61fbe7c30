# Lets money go that was set aside: release.sh STATE RESERVATION
set -eu

# It is no mistake if it is gone: an attempt before this one may have done it.
rm -f "$1/reserved/$2"
echo "released $2" >&2
