# Starts systemd as the first process of namespaces of its own, on an overlay of a
# system that keeps what is changed apart. It is called by the tests within the
# lab: the network is the lab's.
#
# $1 is a directory of the lab for the overlay, $2 the control group to start in, $3
# the directory of the system: / is this machine's.

set -e
echo $$ >"$2/cgroup.procs"
exec unshare --pid --mount --cgroup --ipc --uts --fork --kill-child sh -ec '
box=$1
mkdir -p "$box/upper" "$box/work" "$box/root"
mount -t overlay -o "lowerdir=$2,upperdir=$box/upper,workdir=$box/work" overlay "$box/root"
cd "$box/root"

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs run
mkdir run/lab
mount --bind /run/lab run/lab
mount -t tmpfs -o mode=755 tmpfs dev
for node in "null 3" "zero 5" "full 7" "random 8" "urandom 9"; do
	mknod -m 666 "dev/${node% *}" c 1 "${node#* }"
done
mknod -m 666 dev/tty c 5 0
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

# Nothing of this machine is started: only what the base of systemd needs.
rm -rf etc/systemd/system etc/fstab etc/resolv.conf usr/sbin/policy-rc.d
mkdir -p etc/systemd/system
echo "nameserver 127.0.0.1" >etc/resolv.conf
for unit in \
	dbus.service dbus.socket network-online.target \
	systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
	systemd-hwdb-update.service ldconfig.service systemd-modules-load.service kmod-static-nodes.service \
	dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount sys-kernel-config.mount \
	sys-kernel-debug.mount sys-kernel-tracing.mount proc-sys-fs-binfmt_misc.automount systemd-binfmt.service \
	systemd-remount-fs.service systemd-sysctl.service systemd-random-seed.service systemd-tmpfiles-setup-dev.service \
	systemd-firstboot.service systemd-journal-flush.service systemd-machine-id-commit.service \
	systemd-update-utmp.service systemd-journal-catalog-update.service systemd-update-done.service; do
	ln -s /dev/null "etc/systemd/system/$unit"
done
printf "[Unit]\nRequires=sysinit.target\nAfter=sysinit.target\n" >etc/systemd/system/box.target

pivot_root . mnt
umount -l /mnt
mount --make-rshared / # as at the start of a machine: services are shown what is mounted for them
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
	/lib/systemd/systemd --system --unit=box.target --show-status=no </dev/null
' sh "$1" "$3"
