{{/* The operator's choices for slot pods, as the controller reads them from its file. */}}
{{- define "okiba.slotPod" -}}
{{- $slots := .Values.slots -}}
{{- $images := dict -}}
{{- range $version, $digest := $slots.image.digests -}}
{{- $image := dict "registry" $slots.image.registry "repository" $slots.image.repository "digest" $digest -}}
{{- $_ := set $images $version (include "okiba.image" (dict "root" $ "image" $image)) -}}
{{- end -}}
{{- $secrets := list -}}
{{- range .Values.image.pullSecrets }}{{ $secrets = append $secrets (dict "name" .) }}{{ end -}}
{{- $environment := dict -}}
{{- range $name, $entry := include "okiba.env.site" . | fromYaml -}}
{{- if contains "PROXY" (upper $name) }}{{ $_ := set $environment $name $entry.value }}{{ end -}}
{{- end -}}
{{- $own := dict "app.kubernetes.io/part-of" "okiba" "app.kubernetes.io/component" "slot" -}}
{{- dict
  "anchor" "okiba-slots"
  "images" $images
  "imagePullPolicy" $slots.image.pullPolicy
  "imagePullSecrets" $secrets
  "serviceAccountName" "okiba-slot"
  "runtimeClassName" ($slots.runtimeClassName | default nil)
  "priorityClassName" ($slots.priorityClassName | default nil)
  "nodeSelector" $slots.nodeSelector
  "tolerations" $slots.tolerations
  "affinity" $slots.affinity
  "topologySpreadConstraints" (include "okiba.spreadOf" (dict "constraints" $slots.topologySpreadConstraints "labels" $own) | fromJsonArray)
  "caConfigMap" (include "okiba.slotCA" . | default nil)
  "environment" $environment
| toPrettyJson -}}
{{- end }}

{{/* The ConfigMap with the certificate authorities in the functions' namespace, or nothing. */}}
{{- define "okiba.slotCA" -}}
{{- if .Values.ca.existingConfigMap }}{{ .Values.ca.existingConfigMap }}
{{- else if .Values.ca.bundle }}okiba-ca
{{- end -}}
{{- end }}
