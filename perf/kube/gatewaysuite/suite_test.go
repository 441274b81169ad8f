// Package gatewaysuite runs the Gateway API's own conformance tests against a
// cluster that somebody else has made, from where its Gateways' addresses can be
// reached. perf/kube/gateway makes both.
package gatewaysuite

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/config"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
	"sigs.k8s.io/yaml"
)

var (
	kubeconfig = flag.String("cluster", "", "path of the cluster's kubeconfig")
	manifests  = flag.String("manifests", "", "directory whose files take the place of the suite's own of the same name")
	class      = flag.String("class", "fairlead", "name of the GatewayClass")
	report     = flag.String("report", "", "file that the report is written to")
	only       = flag.String("only", "", "prefixes of the names of tests that are run, separated by commas; empty: all")
	version    = flag.String("implementation-version", "", "what the report calls the version of Fairlead")
)

func TestConformance(t *testing.T) {
	cfg, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, gatewayv1.Install, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	options := client.Options{Scheme: scheme}
	c, err := client.New(cfg, options)
	if err != nil {
		t.Fatal(err)
	}
	set, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	timeouts := config.DefaultTimeoutConfig()
	s, err := suite.NewConformanceTestSuite(suite.ConformanceOptions{
		Client: c, ClientOptions: options, Clientset: set, RestConfig: cfg,
		ManifestFS: []fs.FS{overlay{os.DirFS(*manifests), &conformance.Manifests}},
		ConfigurableOptions: suite.ConfigurableOptions{
			GatewayClassName: *class, CleanupBaseResources: true, CleanupTestResources: true, DisableParallelTests: true,
			TimeoutConfig:     timeouts,
			SupportedFeatures: []features.FeatureName{features.SupportGateway, features.SupportReferenceGrant, features.SupportTCPRoute, features.SupportUDPRoute},
			ConformanceProfiles: []suite.ConformanceProfileName{
				suite.GatewayTCPConformanceProfileName, suite.GatewayUDPConformanceProfileName,
			},
			Implementation: confv1.Implementation{Organization: "fairlead", Project: "fairlead", URL: "https://fairlead.io", Version: *version, Contact: []string{"@fairlead/maintainers"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var chosen []suite.ConformanceTest
	for _, test := range tests.ConformanceTests {
		if *only == "" || hasPrefix(test.ShortName) {
			chosen = append(chosen, test)
		}
	}
	// The suite is done when its own cleanups are, which come first.
	t.Cleanup(func() { write(t, s) })
	s.Setup(t, chosen)
	if err := s.Run(t, chosen); err != nil {
		t.Fatal(err)
	}
}

// write leaves the report where it was asked for.
func write(t *testing.T, s *suite.ConformanceTestSuite) {
	if *report == "" {
		return
	}
	r, err := s.Report()
	if err != nil {
		t.Error(err)
		return
	}
	text, err := yaml.Marshal(r)
	if err == nil {
		err = os.WriteFile(*report, text, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

func hasPrefix(name string) bool {
	for prefix := range strings.SplitSeq(*only, ",") {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// overlay has the files of the second that the first does not have.
type overlay [2]fs.FS

func (o overlay) Open(name string) (fs.File, error) {
	f, err := o[0].Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return o[1].Open(name)
	}
	return f, err
}
