#!/bin/sh
# netifd's handler of "option proto 'clat'". Each option is the flag of clat with the same name, an
# underscore for a hyphen. clat itself gives its TUN the address and the routes.

[ -n "$INCLUDE_ONLY" ] || {
	. /lib/functions.sh
	. /lib/functions/network.sh
	. ../netifd-proto.sh
	init_proto "$@"
}

CLAT_STRINGS="prefix probe ipv4 ipv6 shared_ports forwarding mtu mtu4 metric lan_prefix6 metrics"
CLAT_LISTS="lan"
CLAT_SWITCHES="require_secure always checksum_neutral"

proto_clat_init_config() {
	no_device=1
	available=1

	local name
	for name in $CLAT_STRINGS; do proto_config_add_string "$name"; done
	for name in $CLAT_LISTS; do proto_config_add_array "$name:list(string)"; done
	for name in $CLAT_SWITCHES; do proto_config_add_boolean "$name"; done
	# The interface of /etc/config/network (or the device) towards the IPv6-only network.
	proto_config_add_string tunlink
	proto_config_add_string zone
}

# A string of TOML.
clat_quote() {
	printf '"%s"' "$(printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g')"
}

clat_key() {
	printf '%s' "$1" | tr _ -
}

clat_list_entry() {
	clat_list="${clat_list:+$clat_list, }$(clat_quote "$1")"
}

# The configuration file of clat, from the options of the interface.
clat_toml() {
	local name value clat_list device

	for name in $CLAT_STRINGS; do
		json_get_var value "$name"
		[ -n "$value" ] && echo "$(clat_key "$name") = $(clat_quote "$value")"
	done
	for name in $CLAT_LISTS; do
		clat_list=
		json_for_each_item clat_list_entry "$name"
		[ -n "$clat_list" ] && echo "$(clat_key "$name") = [$clat_list]"
	done
	for name in $CLAT_SWITCHES; do
		json_get_var value "$name"
		[ "$value" = 1 ] && echo "$(clat_key "$name") = true"
	done
	json_get_var value tunlink
	if [ -n "$value" ]; then
		network_get_device device "$value" || device="$value"
		echo "uplink = $(clat_quote "$device")"
	fi
	return 0
}

proto_clat_setup() {
	local cfg="$1" tunlink zone
	local file="${CLAT_DIRECTORY:-/var/etc}/clat-$cfg.toml"
	# An interface's name has 15 characters at most.
	local tun="clat-$cfg"
	[ "${#tun}" -le 15 ] || {
		echo "clat: the name of interface $cfg is longer than 10 characters" >&2
		proto_notify_error "$cfg" NAME_TOO_LONG
		proto_block_restart "$cfg"
		return 1
	}

	mkdir -p "${file%/*}"
	clat_toml >"$file.new" && mv "$file.new" "$file"

	json_get_vars tunlink zone
	[ -n "$tunlink" ] && ( proto_add_host_dependency "$cfg" "" "$tunlink" )

	# The device comes when there is a NAT64 prefix, and is clat's to configure.
	proto_init_update "$tun" 1 1
	proto_add_data
	[ -n "$zone" ] && json_add_string zone "$zone"
	proto_close_data
	proto_send_update "$cfg"

	proto_run_command "$cfg" /usr/sbin/clat --config "$file" --tun "$tun" \
		--run-dir "/var/run/clat-$cfg" --state-dir "/etc/clat/$cfg"
}

proto_clat_teardown() {
	local cfg="$1"
	# SIGTERM: it puts the host back.
	proto_kill_command "$cfg"
	rm -f "${CLAT_DIRECTORY:-/var/etc}/clat-$cfg.toml"
}

[ -n "$INCLUDE_ONLY" ] || add_protocol clat
