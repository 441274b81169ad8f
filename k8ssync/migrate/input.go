package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Input is what MetalLB is configured with, and the Services that it serves.
type Input struct {
	pools         []object[poolSpec]
	l2            []object[l2Spec]
	bgp           []object[bgpSpec]
	peers         []object[peerSpec]
	bfd           []object[bfdSpec]
	communities   []object[communitySpec]
	services      []corev1.Service
	old           []string // objects of kinds that MetalLB itself has given up
	read, ignored int
}

// Resources are the kinds of MetalLB that are read, as the API server calls them.
var Resources = []string{"ipaddresspools", "l2advertisements", "bgpadvertisements", "bgppeers", "bfdprofiles", "communities"}

// Group is MetalLB's group of kinds.
const Group = "metallb.io"

// object is one object of MetalLB.
type object[Spec any] struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              Spec `json:"spec"`
}

type poolSpec struct {
	Addresses         []string    `json:"addresses"`
	AutoAssign        *bool       `json:"autoAssign"`
	AvoidBuggyIPs     bool        `json:"avoidBuggyIPs"`
	ServiceAllocation *allocation `json:"serviceAllocation"`
}

// allocation says whose addresses those of a pool may be.
type allocation struct {
	Priority           int                    `json:"priority"`
	Namespaces         []string               `json:"namespaces"`
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors"`
	ServiceSelectors   []metav1.LabelSelector `json:"serviceSelectors"`
}

// selection says what an advertisement is about.
type selection struct {
	IPAddressPools         []string               `json:"ipAddressPools"`
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors"`
	NodeSelectors          []metav1.LabelSelector `json:"nodeSelectors"`
	ServiceSelectors       []metav1.LabelSelector `json:"serviceSelectors"`
}

type l2Spec struct {
	selection  `json:",inline"`
	Interfaces []string `json:"interfaces"`
}

type bgpSpec struct {
	selection           `json:",inline"`
	AggregationLength   *int     `json:"aggregationLength"`
	AggregationLengthV6 *int     `json:"aggregationLengthV6"`
	LocalPref           uint32   `json:"localPref"`
	Communities         []string `json:"communities"`
	Peers               []string `json:"peers"`
}

type peerSpec struct {
	MyASN                  uint32                 `json:"myASN"`
	ASN                    uint32                 `json:"peerASN"`
	DynamicASN             string                 `json:"dynamicASN"`
	Address                string                 `json:"peerAddress"`
	Interface              string                 `json:"interface"`
	SourceAddress          string                 `json:"sourceAddress"`
	Port                   int                    `json:"peerPort"`
	HoldTime               *metav1.Duration       `json:"holdTime"`
	KeepaliveTime          *metav1.Duration       `json:"keepaliveTime"`
	ConnectTime            *metav1.Duration       `json:"connectTime"`
	RouterID               string                 `json:"routerID"`
	NodeSelectors          []metav1.LabelSelector `json:"nodeSelectors"`
	Password               string                 `json:"password"`
	PasswordSecret         corev1.SecretReference `json:"passwordSecret"`
	BFDProfile             string                 `json:"bfdProfile"`
	EnableGracefulRestart  bool                   `json:"enableGracefulRestart"`
	EBGPMultiHop           bool                   `json:"ebgpMultiHop"`
	VRF                    string                 `json:"vrf"`
	DisableMP              bool                   `json:"disableMP"`
	DualStackAddressFamily bool                   `json:"dualStackAddressFamily"`
}

type bfdSpec struct {
	ReceiveInterval  *int `json:"receiveInterval"`
	TransmitInterval *int `json:"transmitInterval"`
	DetectMultiplier *int `json:"detectMultiplier"`
	EchoInterval     *int `json:"echoInterval"`
	EchoMode         bool `json:"echoMode"`
	PassiveMode      bool `json:"passiveMode"`
	MinimumTTL       *int `json:"minimumTtl"`
}

type communitySpec struct {
	Communities []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"communities"`
}

// maxDocument is how large one YAML document may be.
const maxDocument = 64 << 20

// Read adds what a file has: YAML documents, or JSON, of single objects or of
// lists, as "kubectl get -o yaml" prints them. Kinds that are neither MetalLB's nor
// Services are left out. name is the file's name in messages.
func (in *Input) Read(name string, from io.Reader) error {
	documents := yaml.NewYAMLReader(newReader(from))
	for n := 1; ; n++ {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: document %d: %w", name, n, err)
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		data, err := yaml.ToJSON(text)
		if err == nil {
			err = in.add(data)
		}
		if err != nil {
			return fmt.Errorf("%s: document %d: %w", name, n, err)
		}
	}
}

// Found is how many objects are of MetalLB's kinds or Services, and how many are not.
func (in *Input) Found() (read, ignored int) { return in.read, in.ignored }

// add adds an object, or those of a list, in JSON.
func (in *Input) add(data []byte) error {
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Items []json.RawMessage `json:"items"`
	}
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) { // comments alone
		return nil
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("is no object of Kubernetes: %w", err)
	}
	if head.Kind == "" {
		return errors.New("is no object of Kubernetes: it has no kind")
	}
	if head.Items != nil {
		for i, item := range head.Items {
			if err := in.add(item); err != nil {
				return fmt.Errorf("item %d: %w", i+1, err)
			}
		}
		return nil
	}
	group, _, _ := cut(head.APIVersion)
	switch {
	case group == "" && head.Kind == "Service":
		return into(data, head.Kind, head.Metadata.Name, &in.services, &in.read)
	case group != Group:
		in.ignored++
		return nil
	}
	switch head.Kind {
	case "IPAddressPool":
		return into(data, head.Kind, head.Metadata.Name, &in.pools, &in.read)
	case "L2Advertisement":
		return into(data, head.Kind, head.Metadata.Name, &in.l2, &in.read)
	case "BGPAdvertisement":
		return into(data, head.Kind, head.Metadata.Name, &in.bgp, &in.read)
	case "BGPPeer":
		return into(data, head.Kind, head.Metadata.Name, &in.peers, &in.read)
	case "BFDProfile":
		return into(data, head.Kind, head.Metadata.Name, &in.bfd, &in.read)
	case "Community":
		return into(data, head.Kind, head.Metadata.Name, &in.communities, &in.read)
	case "AddressPool":
		in.old = append(in.old, head.Kind+" "+head.Metadata.Name)
		in.read++
	default: // status objects of MetalLB
		in.ignored++
	}
	return nil
}

// into decodes an object and adds it to a list.
func into[T any](data []byte, kind, name string, list *[]T, count *int) error {
	var one T
	if err := json.Unmarshal(data, &one); err != nil {
		return fmt.Errorf("%s %s: %w", kind, name, err)
	}
	*list = append(*list, one)
	*count++
	return nil
}
