package k8ssync

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/gateway"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/translate"
)

// newRoutes is nil when the Gateway API is not served.
func (s *Sync) newRoutes() (*gateway.Room, error) {
	if !s.cfg.Settings.Gateway {
		return nil, nil
	}
	return gateway.NewRoom(gateway.RoomConfig{
		Settings: s.cfg.Settings, Connection: s.conn, Services: s.objects.Services, Endpoints: s.endpoints,
		Mark: func(key kube.Key, at time.Time, restored bool) { s.dirty.mark(key, change{at: at, restored: restored}) },
		Log:  s.log, Now: s.now,
	})
}

// Gateways are the Gateways that are served and what they mean; nil when the
// Gateway API is not served.
func (s *Sync) Gateways() *gateway.Room { return s.routes }

// endpoints are the backends that a route has by a port of a Service, with the
// options of its Gateway.
func (s *Sync) endpoints(svc *corev1.Service, port corev1.ServicePort, family corev1.IPFamily, o kube.Options) ([]model.Backend, []kube.Problem) {
	in := s.input(svc, o)
	in.Nodes = s.nodes.Load() // whatever the Service itself needs
	return translate.Backends(in, port, family)
}

// gatewayWants are the groups of a Gateway.
func (s *Sync) gatewayWants(key kube.Key) []model.Group {
	if s.routes == nil {
		return nil
	}
	groups, _ := s.routes.Groups(key)
	return groups
}

// markGateways marks the Gateways whose routes lead to a Service.
func (s *Sync) markGateways(namespace, service string, c change) {
	if s.routes == nil {
		return
	}
	for _, key := range s.routes.GatewaysOf(types.NamespacedName{Namespace: namespace, Name: service}) {
		s.dirty.mark(key, c)
	}
}

// ofGroups tells the addresses and ports by what is in the groups.
func (o *Object) ofGroups(groups []model.Group) {
	for i := range groups {
		for j := range groups[i].Services {
			svc := &groups[i].Services[j]
			o.Addresses = append(o.Addresses, svc.VIP.String())
			o.Ports = append(o.Ports, fmt.Sprintf("%s/%d", svc.Protocol, svc.Ports.First))
		}
	}
	slices.Sort(o.Addresses)
	slices.Sort(o.Ports)
	o.Addresses, o.Ports = slices.Compact(o.Addresses), slices.Compact(o.Ports)
}
