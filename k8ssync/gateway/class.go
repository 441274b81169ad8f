package gateway

import (
	"fmt"
	"strconv"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// Bundles that are known to have what is needed: TCPRoute and UDPRoute are v1 from
// 1.6 on, and a release of the same major version adds and does not remove.
const (
	bundleMajor    = 1
	bundleMinMinor = 6
)

// classVerdict says whether a GatewayClass of ours is accepted.
func classVerdict(c *gatewayv1.GatewayClass, bundle string) verdict {
	if ref := c.Spec.ParametersRef; ref != nil {
		return verdict{string(gatewayv1.GatewayClassReasonInvalidParameters),
			fmt.Sprintf("spec.parametersRef: there are no parameters of kind %s; options are annotations of Gateways", kindName(ref.Group, ref.Kind))}
	}
	return verdict{string(gatewayv1.GatewayClassReasonAccepted), "Gateways of this class are served"}
}

// versionVerdict says whether the installed release of the Gateway API is one that
// is known to fit. Others are served as well as they can be.
func versionVerdict(bundle string) (supported bool, v verdict) {
	known := fmt.Sprintf("releases from v%d.%d on are supported", bundleMajor, bundleMinMinor)
	if bundle == "" {
		return false, verdict{string(gatewayv1.GatewayClassReasonUnsupportedVersion), "the definitions of the Gateway API do not tell their release; " + known}
	}
	parts := strings.SplitN(strings.TrimPrefix(bundle, "v"), ".", 3)
	if len(parts) >= 2 {
		major, err1 := strconv.Atoi(parts[0])
		minor, err2 := strconv.Atoi(parts[1])
		if err1 == nil && err2 == nil && major == bundleMajor && minor >= bundleMinMinor {
			return true, verdict{string(gatewayv1.GatewayClassReasonSupportedVersion), "release " + bundle + " of the Gateway API is installed"}
		}
	}
	return false, verdict{string(gatewayv1.GatewayClassReasonUnsupportedVersion), "release " + bundle + " of the Gateway API is installed; " + known}
}

// supportedFeatures are those whose conformance tests pass, sorted by name. Gateway
// is what TCPRoute and UDPRoute build on.
func supportedFeatures(served map[gatewayv1.Kind]bool) []gatewayv1.SupportedFeature {
	out := []gatewayv1.SupportedFeature{
		{Name: gatewayv1.FeatureName(features.SupportGateway)},
		{Name: gatewayv1.FeatureName(features.SupportReferenceGrant)},
	}
	if served[KindTCPRoute] {
		out = append(out, gatewayv1.SupportedFeature{Name: gatewayv1.FeatureName(features.SupportTCPRoute)})
	}
	if served[KindUDPRoute] {
		out = append(out, gatewayv1.SupportedFeature{Name: gatewayv1.FeatureName(features.SupportUDPRoute)})
	}
	return out
}
