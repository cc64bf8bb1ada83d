#!/bin/sh
# What the engine leaves to be done in a container before its systemd starts, each time it starts.
set -eu

# The engine mounts this container's own part of each cgroup hierarchy (its cgroup namespace is private), but read-only.
awk '$2 ~ "^/sys/fs/cgroup" && $3 ~ "^cgroup2?$" { print $2 }' /proc/mounts | while read -r point; do
    mount -o remount,bind,rw "$point"
done

# systemd from 258 on knows cgroup v2 only. On a host of v1 it gets the v2 hierarchy, which has no controllers there; those stay at /run/cgroup.
version=$(dpkg-query -W -f '${Version}' systemd)
if [ "$(stat -f -c %T /sys/fs/cgroup)" = tmpfs ] && dpkg --compare-versions "$version" ge 258~; then
    mkdir /run/cgroup
    mount --rbind /sys/fs/cgroup /run/cgroup
    umount --recursive --lazy /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi

# /dev is made anew with each start
minor=0
while [ "$minor" -lt "${WESTWARD_DEVICES:-0}" ]; do
    mknod -m 666 "/dev/nvidia$minor" c 195 "$minor"
    minor=$((minor + 1))
done
unset WESTWARD_DEVICES
exec /sbin/init
