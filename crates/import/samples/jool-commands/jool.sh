#!/bin/sh
# How the gateway was set up.
modprobe jool
sudo jool instance add "office" --netfilter \
    --pool6 2001:db8:1:ffff::/96
jool -i office pool4 add --tcp 192.0.2.16/30 1024-65535
jool -i office pool4 add 192.0.2.16/30 1024-65535 --udp --max-iterations 5000
jool -i office pool4 add --icmp 192.0.2.16/30 1024-65535
jool -i office bib add --tcp 2001:db8:1::25#25 192.0.2.17#2525; jool -i office global update drop-externally-initiated-tcp true
ip route add 192.0.2.16/30 dev lo
jool -i office global display
