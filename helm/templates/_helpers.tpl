{{- define "larder.name" -}}
{{- if contains "larder" .Release.Name -}}
{{- printf "%s-operator" (.Release.Name | trunc 50 | trimSuffix "-") -}}
{{- else -}}
{{- printf "%s-larder-operator" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "larder.account" -}}
{{- .Values.serviceAccount.name | default (include "larder.name" .) -}}
{{- end -}}

{{- define "larder.selector" -}}
app.kubernetes.io/name: larder-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* Not managed-by=larder: that label marks what the operator itself makes. */ -}}
{{- define "larder.labels" -}}
{{ include "larder.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: larder
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* People's labels beside the chart's own, which win. */ -}}
{{- define "larder.labelsWith" -}}
{{- toYaml (merge (include "larder.labels" .root | fromYaml) .labels) -}}
{{- end -}}

{{- define "larder.image" -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .chart.AppVersion) -}}
{{- end -}}

{{- define "larder.nodeAgent.name" -}}
{{- printf "%s-node-agent" (include "larder.name" . | trimSuffix "-operator") -}}
{{- end -}}

{{- define "larder.nodeAgent.selector" -}}
app.kubernetes.io/name: larder-node-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "larder.nodeAgent.labels" -}}
{{ include "larder.nodeAgent.selector" . }}
{{ include "larder.nodeAgent.otherLabels" . }}
{{- end -}}

{{- define "larder.nodeAgent.otherLabels" -}}
app.kubernetes.io/component: node-agent
app.kubernetes.io/part-of: larder
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* The pod of the agents, and of those that undo their work. "arguments": what is said to the program besides. */ -}}
{{- define "larder.nodeAgent.pod" -}}
{{- $agent := .root.Values.nodeAgent -}}
automountServiceAccountToken: false
# The caches are reached as containerd reaches them: from the node, by the node's own name service.
hostNetwork: true
dnsPolicy: Default
terminationGracePeriodSeconds: 5
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  # The files belong to the node's administrator. No capability comes with it.
  runAsUser: 0
  runAsGroup: 0
  seccompProfile:
    type: RuntimeDefault
containers:
  - name: node-agent
    image: {{ include "larder.image" (dict "image" .root.Values.image "chart" .root.Chart) | quote }}
    {{- with .root.Values.image.pullPolicy }}
    imagePullPolicy: {{ . }}
    {{- end }}
    args:
      - node-agent
      - --namespace={{ join "," $agent.namespaces }}
      - --certs-directory={{ $agent.certsDirectory }}
      {{- with $agent.containerdConfig }}
      - --containerd-config={{ . }}
      {{- end }}
      {{- range .arguments }}
      - {{ . }}
      {{- end }}
    env:
      - name: LARDER_NODE_NAME
        valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
      - name: LARDER_LISTEN_ADDRESS
        valueFrom: {fieldRef: {fieldPath: status.podIP}}
    ports:
      - name: status
        containerPort: {{ .port }}
        protocol: TCP
    readinessProbe:
      httpGet: {path: /readyz, port: status}
      periodSeconds: 2
    livenessProbe:
      httpGet: {path: /healthz, port: status}
      periodSeconds: 10
    resources:
      {{- toYaml $agent.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
    volumeMounts:
      - {name: certs, mountPath: {{ $agent.certsDirectory | quote }}}
      {{- with $agent.containerdConfig }}
      - {name: containerd, mountPath: {{ dir . | quote }}, readOnly: true}
      {{- end }}
      - {name: mirrors, mountPath: /etc/larder/mirrors, readOnly: true}
      - {name: confidential-mirrors, mountPath: /etc/larder/confidential-mirrors, readOnly: true}
volumes:
  - name: certs
    hostPath: {path: {{ $agent.certsDirectory | quote }}, type: DirectoryOrCreate}
  {{- with $agent.containerdConfig }}
  # The directory: a file that is not there would keep the pod from starting, and one that is replaced would not be seen.
  - name: containerd
    hostPath: {path: {{ dir . | quote }}, type: DirectoryOrCreate}
  {{- end }}
  # Written by the operator, which may come later.
  - name: mirrors
    configMap: {name: {{ include "larder.nodeAgent.name" .root }}, optional: true}
  # Likewise; it is there only while a mirror holds credentials.
  - name: confidential-mirrors
    secret: {secretName: {{ include "larder.nodeAgent.name" .root }}, optional: true, defaultMode: 0400}
{{- with $agent.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $agent.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
