package options

import (
	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

// draft is what has been read so far.
type draft struct {
	options kube.Options
	kind    string // of the health check
	check   model.Check
}

var annotations = [...]Annotation{
	{Addresses, "one IPv4 address, one IPv6 address, or both, with a comma between", "any of a pool",
		"The VIPs that are asked for. They must lie in a pool. While the value is wrong, none is assigned.",
		func(d *draft, v string) (err error) { d.options.Addresses, err = addresses(v); return err }},
	{Pool, "the name of an address pool", "any that gives addresses out by itself",
		"The pool that the VIPs are taken from.",
		func(d *draft, v string) (err error) { d.options.Pool, err = name(v); return err }},
	{SharingKey, "any text, up to 253 bytes", "none: the VIP is the Service's own",
		"Services with the same key may have the same VIP, as long as their ports differ.",
		func(d *draft, v string) (err error) { d.options.SharingKey, err = name(v); return err }},
	{SharingNamespaces, "names of namespaces with commas between, or `*` for all", "the Service's own namespace only",
		"The other namespaces whose Services may share the VIP. Both sides must agree.",
		func(d *draft, v string) (err error) { d.options.SharingNamespace, err = namespaces(v); return err }},
	{RetainAddress, "`true` or `false`", "`false`",
		"Whether the VIPs stay reserved for a Service of this name when it is deleted.",
		func(d *draft, v string) (err error) { d.options.Retain, err = boolean(v); return err }},

	{Method, "`pods`, `nodeports` or `nodes`", "`method` of `[kubernetes]`; with `externalTrafficPolicy: Local`, `local_method`",
		"How packets get to the pods.",
		func(d *draft, v string) (err error) {
			d.options.Method, err = word(v, kube.Pods, kube.NodePorts, kube.Nodes)
			return err
		}},
	{NodesVia, "`l2`, `ipip` or `gue`", "`nodes_via` of `[kubernetes]`",
		"How method `nodes` gets packets to a node.",
		func(d *draft, v string) (err error) {
			d.options.NodesVia, err = word(v, model.L2, model.IPIP, model.GUE)
			return err
		}},
	{IPMode, "`VIP` or `Proxy`", "`VIP` with method `nodes`, else `Proxy`",
		"The `ipMode` of the status: with `VIP`, clients in the cluster go straight to the pods; with `Proxy`, they come by Fairlead.",
		func(d *draft, v string) (err error) {
			d.options.IPMode, err = word(v, kube.ModeVIP, kube.ModeProxy)
			return err
		}},
	{IdleTimeout, "a duration, `1s` to `576h`", "`2h4m` for TCP, `2m` for UDP, `3m30s` for SCTP",
		"How long an established TCP flow, a UDP flow or an SCTP association without packets is remembered.",
		func(d *draft, v string) (err error) {
			d.options.IdleTimeout, err = duration(v, model.MinTimeout, model.MaxTimeout)
			return err
		}},
	{DrainTimeout, "a duration, `0s` to `576h`", "`0s` for pods, `5m` for nodes",
		"How long TCP flows and SCTP associations live on whose backend was removed. UDP flows leave at once.",
		func(d *draft, v string) (err error) {
			if d.options.DrainTimeout, err = duration(v, 0, model.MaxTimeout); err == nil && d.options.DrainTimeout == 0 {
				d.options.DrainTimeout = model.NoDrain
			}
			return err
		}},
	{OnBackendGone, "`reset`, `rehash` or `drop`", "`reset`",
		"What becomes of a TCP flow whose backend is dead or gone: its client is told, it goes to another backend, or its packets are dropped.",
		func(d *draft, v string) (err error) {
			d.options.Gone, err = word(v, model.GoneReset, model.GoneRehash, model.GoneDrop)
			return err
		}},
	{SlowStart, "a duration, `0s` to `24h`", "`0s`: at once",
		"The time in which a backend that comes alive reaches its full share. It needs a health check.",
		func(d *draft, v string) (err error) {
			d.options.SlowStart, err = duration(v, 0, model.MaxSlowStart)
			return err
		}},
	{FailAction, "`drop` or `pass`", "`drop`",
		"What becomes of packets to the VIP while no data process lives: they are dropped, or left to the host.",
		func(d *draft, v string) (err error) {
			d.options.FailAction, err = word(v, model.FailDrop, model.FailPass)
			return err
		}},

	{HealthCheck, "`none`, `tcp`, `http`, `https`, `tls`, `grpc`, `udp`, `icmp` or `dns`", "for pods none; for nodes see below",
		"How Fairlead itself checks the backends, besides what Kubernetes says of them.",
		func(d *draft, v string) (err error) { d.kind, err = checkKind(v); return err }},
	{HealthCheckPort, "1 to 65535", "the backend's",
		"The port that is asked.",
		func(d *draft, v string) error { n, err := number(v, 1, 65535); d.check.Port = uint16(n); return err }},
	{HealthCheckInterval, "a duration, `50ms` to `1h`", "`2s`",
		"How often a backend is asked.",
		func(d *draft, v string) (err error) {
			d.check.Interval, err = duration(v, model.MinCheckInterval, model.MaxCheckInterval)
			return err
		}},
	{HealthCheckTimeout, "a duration, `5ms` to the interval", "`1s`, or the interval when that is shorter",
		"How long it has to answer.",
		func(d *draft, v string) (err error) {
			d.check.Timeout, err = duration(v, model.MinCheckTimeout, model.MaxCheckInterval)
			return err
		}},
	{HealthCheckRise, "1 to 100", "`2`",
		"After how many successes in a row a dead backend is alive.",
		func(d *draft, v string) (err error) {
			d.check.Rise, err = number(v, 1, model.MaxCheckCount)
			return err
		}},
	{HealthCheckFall, "1 to 100", "`3`",
		"After how many failures in a row a live backend is dead.",
		func(d *draft, v string) (err error) {
			d.check.Fall, err = number(v, 1, model.MaxCheckCount)
			return err
		}},
	{HealthCheckPath, "a path that begins with `/`", "`/`",
		"What `http` and `https` ask for.",
		func(d *draft, v string) error { d.check.HTTP.Path = v; return nil }},
	{HealthCheckHost, "a host name or an address", "the address that is asked",
		"The Host header of `http` and `https`.",
		func(d *draft, v string) error { d.check.HTTP.Host = v; return nil }},
	{HealthCheckStatus, "codes and ranges with commas between, such as `200,300-399`", "`200-399`",
		"The status codes of `http` and `https` that are a success.",
		func(d *draft, v string) (err error) { d.check.HTTP.Status, err = statuses(v); return err }},
	{HealthCheckGRPCService, "the name of a service", "the server as a whole",
		"What `grpc` asks the health service for.",
		func(d *draft, v string) error { d.check.GRPC.Service = v; return nil }},
	{HealthCheckDNSName, "a domain name", "`.`",
		"The name that `dns` asks for.",
		func(d *draft, v string) error { d.check.DNS.Name = v; return nil }},
	{HealthCheckSend, "text, up to 1200 bytes", "an empty datagram",
		"What `udp` sends.",
		func(d *draft, v string) error { d.check.UDP.Send = v; return nil }},
	{HealthCheckExpect, "text, up to 1200 bytes", "any answer",
		"What the answer to `udp` must begin with.",
		func(d *draft, v string) error { d.check.UDP.Expect = v; return nil }},
}
